"""fetch_url: the text of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError
from pagi_sandbox.domain.web.addresses import AllowedHosts
from pagi_sandbox.domain.web.fetching import MAX_URL, Bounds, fetch
from pagi_sandbox.domain.web.text import media_type, text_of

MAX_CHARACTERS = 100_000
_BOUNDS = Bounds(seconds=30.0, body=4 * 2**20)
_ACCEPT = "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,*/*;q=0.1"


class FetchUrl:
    """Fetches a page and gives its text."""

    name = "fetch_url"
    description = (
        "Fetch a page, text or JSON document from the public web and read it as text: title and main content, without "
        "scripts, styles and navigation. Use it on addresses from web_search or from the user. Long texts come in "
        "parts: next_offset says where to go on. It runs no scripts, fills in no forms, knows no logins, and does not "
        "read PDF, images or other binary files."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_URL,
                "description": "Begins with http:// or https://.",
            },
            "offset": {
                "type": "integer",
                "minimum": 0,
                "maximum": 2**31,
                "default": 0,
                "description": "First character of the text.",
            },
            "max_characters": {"type": "integer", "minimum": 100, "maximum": MAX_CHARACTERS, "default": 20_000},
            "whole_page": {
                "type": "boolean",
                "default": False,
                "description": "Also what is not main content: menus, headers, footers.",
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    }
    effects = Effects.READ_ONLY
    permissions = (Permission.NETWORK,)
    minimum_profile = "L0"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"url", "title", "content_type", "text", "characters", "offset", "next_offset", "cut"}.

        url is where redirects led; next_offset is null at the end; cut tells that the document was longer than the
        4 MiB that are read of one.
        """
        allowed = AllowedHosts(context.configuration.get("allow", ()))
        document = fetch(arguments["url"], allowed, _BOUNDS, accept=_ACCEPT)
        if document.status >= 400:
            raise ToolFailedError(f"{document.url[:200]} answered with status {document.status}")
        page = text_of(document, whole=arguments.get("whole_page", False))
        offset, most = int(arguments.get("offset", 0)), int(arguments.get("max_characters", 20_000))
        end = min(offset + most, len(page.text))
        return {
            "url": document.url,
            "title": page.title,
            "content_type": media_type(document),
            "text": page.text[offset:end],
            "characters": len(page.text),
            "offset": offset,
            "next_offset": end if end < len(page.text) else None,
            "cut": document.cut,
        }
