"""The HTTP application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pagi_chassis import problems
from pagi_chassis.health import Health
from pagi_chassis.http_edge import HttpEdge
from pagi_chassis.http_server import health_routes
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.ports import Archive, SessionFiles
from pagi_planner.routes import api_key as api_keys
from pagi_planner.routes import (
    chat,
    decisions,
    description,
    knowledge,
    memory,
    plan,
    reference,
    runs,
    sessions,
    stream,
    time_travel,
    websocket,
)
from pagi_planner.routes.event_stream import Patience
from pagi_planner.routes.invalid_request import on_invalid_request
from pagi_planner.schemas import Bounds

# Room for the longest prompt in UTF-8 with JSON escapes, and for everything around it.
BODY_BYTES = 16 * 1024 * 1024


def create_application(
    service: Runs,
    files: SessionFiles,
    archive: Archive,
    health: Health,
    *,
    api_key: str,
    bounds: Bounds,
    patience: Patience | None = None,
    origins: Collection[str] = (),
) -> FastAPI:
    """The application over everything that it needs.

    Args:
        service: Starts and finds runs.
        files: Hands out what tools left.
        archive: Lets people look at memory.
        health: Answers for the service.
        api_key: What callers must show; empty: nothing.
        bounds: What the operator allows.
        patience: How long streams wait.
        origins: Pages of these origins may open a WebSocket, beside those of this host.
    """
    patience = patience or Patience()
    app = FastAPI(
        title="PAGI Mesh agent-planner",
        version=version("pagi-planner"),
        description="Ask an agent, and look at what it did.",
        docs_url=None,
        redoc_url=None,
        exception_handlers={**problems.HANDLERS, RequestValidationError: on_invalid_request},
    )
    described = api_keys.described() if api_key else []
    app.include_router(plan.router(service, bounds, patience), dependencies=described)
    app.include_router(chat.router(service, bounds, patience), dependencies=described)
    app.include_router(runs.router(service), dependencies=described)
    app.include_router(time_travel.router(service, bounds), dependencies=described)
    app.include_router(stream.router(service, patience), dependencies=described)
    app.include_router(decisions.router(service), dependencies=described)
    app.include_router(sessions.router(files), dependencies=described)
    app.include_router(memory.router(archive), dependencies=described)
    app.include_router(knowledge.router(archive), dependencies=described)
    app.router.routes.append(websocket.route(service, bounds, patience, key=api_key, origins=origins))
    for route in health_routes(health):
        _add_health(app, route)
    description.complete(app, bounds)
    reference.add(app)
    if api_key:
        app.add_middleware(api_keys.ApiKeyGuard, key=api_key)
    # The last one added is the outermost.
    app.add_middleware(HttpEdge, max_body_bytes=BODY_BYTES)
    return app


def _add_health(app: FastAPI, route: Route) -> None:
    """Adds one of the chassis's routes, described in the OpenAPI document as every other path."""
    endpoint = _endpoint(route)
    told = description.OPERATIONS[route.path]
    app.add_api_route(route.path, endpoint, methods=["GET"], tags=[description.OPERATIONS_TAG], **told)
    app.add_api_route(route.path, endpoint, methods=["HEAD"], include_in_schema=False)


def _endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
    """The route's own endpoint, with the annotations that FastAPI reads."""

    async def answer(request: Request) -> Response:
        response: Response = await route.endpoint(request)
        return response

    return answer
