"""The failures of each route, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pagi_planner.routes.operations_bodies import Problem

_DESCRIPTIONS = {
    401: "The API key is absent or wrong",
    403: "Who asks may look at this and not change it",
    404: "There is nothing of this name",
    409: "Something else was decided before",
    412: "The model gateway is set up wrongly, or the run of this Idempotency-Key was cut off",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "Something in the request cannot be used; `errors` names it",
    429: "A limit of the model provider is reached; Retry-After says when to come back",
    499: "The run was cancelled",
    500: "A fault of ours; the log has more under the trace id",
    503: "Overloaded, or a service that is needed is away; Retry-After says when to come back",
    504: "The model did not answer in time",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that fails in these ways."""
    return {status: _response(status) for status in statuses}


def _response(status: int) -> dict[str, Any]:
    response = {
        "description": _DESCRIPTIONS[status],
        "content": {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
    }
    return response | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})
