"""The HTTP application and its description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from pagi_chassis import problems
from pagi_chassis.health import Health
from pagi_chassis.http_edge import HttpEdge
from pagi_chassis.http_server import health_routes
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pagi_planner.domain.model import Limits
from pagi_planner.domain.runs import Runs
from pagi_planner.routes import plan, runs
from pagi_planner.routes.api_key import ApiKey
from pagi_planner.schemas import HealthBody

# Room for the longest prompt in UTF-8 with JSON escapes, and for everything around it.
BODY_BYTES = 16 * 1024 * 1024


def create_application(
    service: Runs, health: Health, *, api_key: str, most: Limits, max_prompt_characters: int
) -> FastAPI:
    """The application over everything that it needs.

    Args:
        service: Starts and finds runs.
        health: Answers for the service.
        api_key: What callers must show; empty: nothing.
        most: The operator's limits of a run.
        max_prompt_characters: Longest prompt.
    """
    app = FastAPI(
        title="PAGI Mesh agent-planner",
        version="0.1.0",
        description="Ask an agent, and look at what it did.",
        exception_handlers={**problems.HANDLERS, RequestValidationError: _on_invalid_request},
    )
    # FastAPI would trace by itself where a tracer is set, at 1.6 times the cost; HttpEdge does it once.
    guarded = [Depends(ApiKey(api_key))] if api_key else []
    app.include_router(plan.router(service, most, max_prompt_characters), dependencies=guarded)
    app.include_router(runs.router(service), dependencies=guarded)
    _add_health(app, health)
    app.add_middleware(HttpEdge, max_body_bytes=BODY_BYTES)
    return app


def _add_health(app: FastAPI, health: Health) -> None:
    """Adds the chassis's health routes, described in the OpenAPI document as every other path."""
    described: dict[str, dict[str, Any]] = {
        "/health": {
            "summary": "The service and what it depends on",
            "responses": {200: {"model": HealthBody}, 503: {"model": HealthBody, "description": "Unavailable"}},
        },
        "/health/live": {"summary": "Whether the process lives"},
        "/health/ready": {
            "summary": "Whether traffic is welcome",
            "responses": {503: {"description": "Not now", "content": {"application/json": {}}}},
        },
        "/metrics": {
            "summary": "Prometheus metrics",
            "responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
            "response_class": Response,
        },
    }
    for route in health_routes(health):
        app.add_api_route(
            route.path, _endpoint(route), methods=["GET"], tags=["operations"], name=route.path, **described[route.path]
        )


def _endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
    """The route's own endpoint, with the annotations that FastAPI reads."""

    async def answer(request: Request) -> Response:
        response: Response = await route.endpoint(request)
        return response

    return answer


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    """What pydantic found, as a problem document that names each field."""
    assert isinstance(error, RequestValidationError)
    faults = [(_place(fault["loc"]), _message(fault)) for fault in error.errors()]
    detail = "; ".join(f"{field}: {message}" for field, message in faults[:10])
    return problems.problem(422, "Invalid argument", detail, faults=faults[:100])


def _place(location: tuple[int | str, ...]) -> str:
    """`limits.max_steps`, `tools[0]`, `Idempotency-Key`; `body` for the whole of it."""
    parts = location[1:] if location[:1] in (("body",), ("query",), ("path",), ("header",)) else location
    if location[:1] == ("body",) and (not parts or isinstance(parts[0], int)):
        return "body"
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "body"


def _message(fault: Any) -> str:
    """In our words where pydantic's are about its own insides."""
    if fault["type"] == "json_invalid":
        return f"not JSON at character {fault['loc'][-1]}: {fault.get('ctx', {}).get('error', 'it does not parse')}"
    if fault["type"] == "extra_forbidden":
        return "there is no such field"
    return str(fault["msg"]).removeprefix("Value error, ")
