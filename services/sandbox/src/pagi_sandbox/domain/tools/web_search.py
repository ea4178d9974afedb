"""web_search: asks the provider that the operator has set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.ports import WebSearch as SearchPort
from pagi_sandbox.domain.tool import Effects, Permission, ToolContext


class WebSearch:
    """Searches the web. A ServiceTool: a tool's process shall neither know the provider nor reach the network."""

    name = "web_search"
    description = "Search the web for current information. Gives titles, addresses and short excerpts."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 400, "description": "What to search for."},
            "max_results": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5},
        },
        "required": ["query"],
        "additionalProperties": False,
    }
    effects = Effects.READ_ONLY
    permissions = (Permission.SERVICE, Permission.NETWORK)
    minimum_profile = "L0"

    def __init__(self, search: SearchPort) -> None:
        """Searches through the given provider."""
        self._search = search

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"query", "provider", "results": [{"title", "url", "snippet"}]}."""
        query = arguments["query"]
        hits = await self._search.search(query, int(arguments.get("max_results", 5)))
        results = [{"title": hit.title, "url": hit.url, "snippet": hit.snippet} for hit in hits]
        return {"query": query, "provider": self._search.provider, "results": results}
