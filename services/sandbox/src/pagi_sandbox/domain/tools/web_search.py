"""web_search: asks the provider that the operator has set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError
from pagi_sandbox.domain.web import searxng


class WebSearch:
    """Searches the web. Its provider's address comes with each call, so that no other tool's process knows it."""

    name = "web_search"
    description = (
        "Search the web for current information, or for what you do not know. Gives titles, addresses and short "
        "excerpts, best first; fetch_url then reads a page. Ask in a few words, as one would a search engine."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": 400,
                "pattern": "\\S",
                "description": "What to search for.",
            },
            "max_results": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5},
        },
        "required": ["query"],
        "additionalProperties": False,
    }
    effects = Effects.READ_ONLY
    permissions = (Permission.NETWORK,)
    minimum_profile = "L0"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"query", "provider", "results": [{"title", "url", "snippet"}]}."""
        instance = context.configuration.get("searxng_url")
        if not instance:
            raise ToolFailedError(
                "web search is not configured on this server; answer without it. "
                "(The operator can set WEB_SEARCH_PROVIDER=searxng and SEARXNG_URL.)"
            )
        hits = searxng.search(instance, arguments["query"])[: int(arguments.get("max_results", 5))]
        results = [{"title": hit.title, "url": hit.url, "snippet": hit.snippet} for hit in hits]
        return {"query": arguments["query"], "provider": "searxng", "results": results}
