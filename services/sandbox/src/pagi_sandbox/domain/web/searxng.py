"""Web search through a SearXNG instance (https://docs.searxng.org/dev/search_api.html)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from pagi_sandbox.domain.model import SearchHit
from pagi_sandbox.domain.tool import ToolFailedError
from pagi_sandbox.domain.web.addresses import AllowedHosts, parse_allowed
from pagi_sandbox.domain.web.fetching import Bounds, fetch, parse_url

_BOUNDS = Bounds(seconds=15.0, body=4 * 2**20, redirects=0)
_LONGEST_SNIPPET = 1_000


def search(instance: str, query: str) -> list[SearchHit]:
    """What the instance at that address finds, best first.

    Raises:
        ToolFailedError: it cannot be reached or gave no usable answer.
    """
    target = parse_url(instance)
    # The operator has named the instance: it may be anywhere, but it cannot lead elsewhere.
    host = f"[{target.host}]" if ":" in target.host else target.host
    allowed = AllowedHosts((parse_allowed(f"{host}:{target.port}"),))
    asked = urlencode({"q": query, "format": "json"})
    answer = fetch(f"{instance.rstrip('/')}/search?{asked}", allowed, _BOUNDS, accept="application/json")
    _expect_ok(answer.status)
    if answer.cut:
        raise ToolFailedError(f"the web search answered more than {_BOUNDS.body} bytes")
    try:
        return _hits(json.loads(answer.body))
    except (ValueError, RecursionError) as error:
        raise ToolFailedError("the web search answered with something else than JSON") from error


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
