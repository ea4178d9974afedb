"""What the OpenAPI document says beyond what FastAPI finds by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from pagi_planner.routes.operations_bodies import HealthBody, Problem, StateBody
from pagi_planner.schemas import LIMIT_VARIABLES, Bounds

if TYPE_CHECKING:
    from fastapi import FastAPI

OPERATIONS_TAG = "operations"
# The routes that every service has, by path.
OPERATIONS: dict[str, dict[str, Any]] = {
    "/health": {
        "operation_id": "health",
        "summary": "The service and what it depends on",
        "responses": {200: {"model": HealthBody}, 503: {"model": HealthBody, "description": "Unavailable"}},
    },
    "/health/live": {
        "operation_id": "live",
        "summary": "Whether the process lives",
        "responses": {200: {"model": StateBody}},
    },
    "/health/ready": {
        "operation_id": "ready",
        "summary": "Whether traffic is welcome",
        "responses": {200: {"model": StateBody}, 503: {"model": StateBody, "description": "Not now"}},
    },
    "/metrics": {
        "operation_id": "metrics",
        "summary": "Prometheus metrics",
        "responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        "response_class": Response,
    },
}

_TRACE_ID_PARAMETER = {
    "name": "X-Trace-ID",
    "in": "header",
    "required": False,
    "description": "Names it on each log line, audit row, span and notification; absent or empty: one is made.",
    "schema": {"type": "string", "pattern": r"^[\x20-\x7e]{0,128}$"},
}
_TRACE_ID_HEADER = {
    "description": "The trace id of the request",
    "schema": {"type": "string", "pattern": r"^[\x20-\x7e]{1,128}$"},
}


def complete(app: FastAPI, bounds: Bounds) -> None:
    """Adds the operator's bounds, the trace id and the schema of problem documents to the application's description."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_made = app.openapi_schema is not None
        document = generate()
        if not is_made:
            _add_problem(document)
            _add_bounds(document, bounds)
            _add_trace_id(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_problem(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs"))
    schemas[Problem.__name__] = schema


def _add_bounds(document: dict[str, Any], bounds: Bounds) -> None:
    schemas = document["components"]["schemas"]
    schemas["PlanRequest"]["properties"]["prompt"]["maxLength"] = bounds.prompt_characters
    limits = schemas["LimitsBody"]["properties"]
    for name in LIMIT_VARIABLES:
        if (most := getattr(bounds.most, name)) is not None:
            limits[name]["maximum"] = most


def _add_trace_id(document: dict[str, Any]) -> None:
    """What HttpEdge does for every request."""
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        if OPERATIONS_TAG not in operation["tags"]:
            operation.setdefault("parameters", []).append(_TRACE_ID_PARAMETER)
        for response in operation["responses"].values():
            response.setdefault("headers", {})["X-Trace-ID"] = _TRACE_ID_HEADER
