"""The ASGI application of the HTTP port."""

from __future__ import annotations

from pagi_chassis import problems
from pagi_chassis.errors import InvalidArgumentError
from pagi_chassis.health import Health
from pagi_chassis.http_edge import HttpEdge
from pagi_chassis.http_server import health_routes
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pagi_memory.domain.history import History
from pagi_memory.domain.limits import MAX_TURNS_READ
from pagi_memory.schemas import turns_to_json

# Nothing that this port serves takes a body.
MAX_BODY_BYTES = 65_536


def application(health: Health, history: History) -> Starlette:
    """Health, metrics and `GET /memory/latest`."""

    async def latest(request: Request) -> Response:
        session_id = request.query_params.get("session_id", "")
        turns = await history.newest("", session_id, max_turns=_limit(request))
        return JSONResponse(turns_to_json(session_id, turns))

    return Starlette(
        routes=[*health_routes(health), Route("/memory/latest", latest)],
        middleware=[Middleware(HttpEdge, max_body_bytes=MAX_BODY_BYTES)],
        exception_handlers=problems.HANDLERS,
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
