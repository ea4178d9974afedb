"""The ASGI application of the HTTP port."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, PagiError
from pagi_chassis.health import Health
from pagi_chassis.http_server import health_routes
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pagi_memory.domain.history import History
from pagi_memory.domain.limits import MAX_TURNS_READ
from pagi_memory.routes.problems import http_error, pagi_error, unexpected_error
from pagi_memory.schemas import turns_to_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_TRACE_ID_CHARS = 128


def application(health: Health, history: History) -> Starlette:
    """Health, metrics and `GET /memory/latest`."""

    async def latest(request: Request) -> Response:
        session_id = request.query_params.get("session_id", "")
        turns = await history.newest("", session_id, max_turns=_limit(request))
        return JSONResponse(turns_to_json(session_id, turns))

    return Starlette(
        routes=[*health_routes(health), Route("/memory/latest", latest)],
        middleware=[Middleware(TraceId)],
        exception_handlers={PagiError: pagi_error, HTTPException: http_error, Exception: unexpected_error},
    )


def _limit(request: Request) -> int:
    """The number given as `limit`; 0 (the default) where there is none."""
    text = request.query_params.get("limit")
    if text is None:
        return 0
    # Not int() alone: it takes "1_0", digits of other scripts, and 5,000 of them.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_TURNS_READ):
        raise InvalidArgumentError(f"limit must be a number between 1 and {MAX_TURNS_READ}.", field="limit")
    return int(text)


class TraceId:
    """Takes `X-Trace-ID` from the request or makes one, and answers with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Request(scope).headers.get("x-trace-id", "")
        usable = given.isascii() and given.isprintable() and len(given) <= _MAX_TRACE_ID_CHARS
        trace_id = given if given and usable else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Trace-ID"] = trace_id
            await send(message)

        with correlation.bind(trace_id=trace_id):
            await self._app(scope, receive, send_with_id)
