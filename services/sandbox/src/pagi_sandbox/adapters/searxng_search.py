"""Web search through a SearXNG instance (https://docs.searxng.org/dev/search_api.html)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pagi_sandbox.domain.model import SearchHit
from pagi_sandbox.domain.tool import ToolFailedError

if TYPE_CHECKING:
    import aiohttp

_MAX_BODY = 4 * 2**20
_TIMEOUT_S = 15.0
_LONGEST_SNIPPET = 1_000


class SearxngSearch:
    """A WebSearch and a component."""

    provider = "searxng"

    def __init__(self, url: str) -> None:
        """`url` is the instance's address, with or without a path."""
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Opens the client; the instance itself is asked only when there is something to search."""
        # Imported here: it costs 100 ms, and most installations have no search provider.
        import aiohttp

        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S, connect=5.0), trust_env=False
        )

    async def stop(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def search(self, query: str, max_results: int) -> Sequence[SearchHit]:
        """Asks the instance; see WebSearch."""
        return _hits(await self._ask(query))[:max_results]

    async def _ask(self, query: str) -> Any:
        import aiohttp

        assert self._session is not None, "the search was not started"
        try:
            async with self._session.get(
                f"{self._url}/search", params={"q": query, "format": "json"}, headers={"Accept": "application/json"}
            ) as response:
                body = await _read(response)
        except TimeoutError as error:
            raise ToolFailedError(f"the web search did not answer within {_TIMEOUT_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ToolFailedError(f"the web search cannot be reached: {error}") from error
        _expect_ok(response.status)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ToolFailedError("the web search answered with something else than JSON") from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_BODY:
            raise ToolFailedError(f"the web search answered more than {_MAX_BODY} bytes")
    return bytes(body)


def _expect_ok(status: int) -> None:
    if status == 200:
        return
    hint = {
        403: '; the instance must allow JSON ("search: formats: [html, json]" in its settings.yml)',
        429: "; too many searches, try later",
    }.get(status, "")
    raise ToolFailedError(f"the web search answered with status {status}{hint}")


def _hits(answer: Any) -> list[SearchHit]:
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        raise ToolFailedError("the web search answered JSON without results")
    return list(_usable(results))


def _usable(results: Iterable[Any]) -> Iterable[SearchHit]:
    for result in results:
        url = result.get("url") if isinstance(result, dict) else None
        if isinstance(url, str) and url.startswith(("http://", "https://")):
            title, snippet = str(result.get("title") or ""), str(result.get("content") or "")
            yield SearchHit(title[:300], url, snippet[:_LONGEST_SNIPPET])
