"""Who may call an HTTP port: the holder of one key."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from pagi_chassis.errors import UnauthenticatedError
from pagi_chassis.problems import problem_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

# Watched by machines that hold no key.
EXEMPT = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})


class ApiKeyGuard:
    """ASGI middleware that lets a request pass with the key in `X-API-Key` or as a bearer token.

    It stands before the routes, so that without the key no body is read and no path can be told from another. Other
    connections than HTTP requests pass: a WebSocket is asked for the key by what serves it.

    Args:
        app: What is guarded, but for the paths in `EXEMPT`.
        key: The key.
    """

    def __init__(self, app: ASGIApp, *, key: str) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it; whether the key was absent or wrong is not told."""
        if scope["type"] != "http" or scope["path"] in EXEMPT or is_shown(Headers(scope=scope), self._key):
            await self._app(scope, receive, send)
        else:
            await problem_of(UnauthenticatedError("unauthenticated"))(scope, receive, send)


def is_shown(headers: Headers, key: str) -> bool:
    """Whether a request shows the key in `X-API-Key` or as a bearer token."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    shown = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
    # Headers are bytes, which Starlette shows as Latin-1; compared in constant time.
    return hmac.compare_digest(shown.encode("latin-1"), key.encode())
