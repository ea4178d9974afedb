"""Web search where the operator has set no provider."""

from __future__ import annotations

from collections.abc import Sequence

from pagi_sandbox.domain.model import SearchHit
from pagi_sandbox.domain.tool import ToolFailedError


class NoWebSearch:
    """A WebSearch that says how to get one."""

    provider = "none"

    async def search(self, query: str, max_results: int) -> Sequence[SearchHit]:
        """Always fails.

        Raises:
            ToolFailedError: names the variables to set.
        """
        raise ToolFailedError(
            "web search is not configured on this server; answer without it. "
            "(The operator can set WEB_SEARCH_PROVIDER=searxng and SEARXNG_URL.)"
        )
