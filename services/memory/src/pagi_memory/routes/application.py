"""The ASGI application of the HTTP port."""

from __future__ import annotations

from collections.abc import Sequence

from pagi_chassis import problems
from pagi_chassis.api_key import ApiKeyGuard
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
from pagi_memory.routes import asking
from pagi_memory.schemas import turns_to_json

# Where nothing that is served takes a larger body.
MAX_BODY_BYTES = 65_536


def application(
    health: Health,
    history: History,
    *,
    more: Sequence[Route] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
    api_key: str = "",
) -> Starlette:
    """Health, metrics, `GET /memory/latest` and whatever else memory lets people see and change.

    Args:
        health: Answers for the service.
        history: Of every tenant.
        more: Further routes.
        max_body_bytes: Larger bodies are refused.
        api_key: What callers must show, but for health and metrics; empty: nothing.
    """

    async def latest(request: Request) -> Response:
        session_id = asking.text(request, "session_id")
        limit = asking.number(request, "limit", MAX_TURNS_READ)
        turns = await history.newest(asking.tenant(), session_id, max_turns=limit)
        return JSONResponse(turns_to_json(session_id, turns))

    guard = [Middleware(ApiKeyGuard, key=api_key)] if api_key else []
    return Starlette(
        routes=[*health_routes(health), Route("/memory/latest", latest), *more],
        middleware=[Middleware(HttpEdge, max_body_bytes=max_body_bytes), *guard, Middleware(asking.TenantOfHeader)],
        exception_handlers=problems.HANDLERS,
    )
