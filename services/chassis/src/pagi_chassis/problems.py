"""Failures at an HTTP edge, as RFC 9457 problem documents.

`error` repeats `detail` for readers of the founding documents, `errors` names the parts of a request that are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http.client import responses
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pagi_chassis import correlation
from pagi_chassis.errors import InternalError, InvalidArgumentError, PagiError
from pagi_chassis.statuses import status_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    faults: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document.

    Args:
        status: HTTP status code.
        title: What kind of problem, the same for all of its kind.
        detail: What is wrong here and what to do.
        faults: Field and message of each part of the request that is wrong.
        headers: More headers.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "trace_id": correlation.current().trace_id,
        "error": detail,
    }
    if faults:
        body["errors"] = [{"field": field, "message": message} for field, message in faults]
    if run_id := correlation.current().run_id:
        body["run_id"] = run_id
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problem_of(error: PagiError) -> Response:
    """The document of a typed error."""
    row = status_of(error)
    if isinstance(error, InternalError):
        # Its text came from another service and may tell more than a caller should read.
        return unexpected()
    faults = [(error.field, error.message)] if isinstance(error, InvalidArgumentError) and error.field else []
    retry_after_s = getattr(error, "retry_after_s", None)
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    if row.http == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(row.http, row.title, error.message, faults=faults, headers=headers)


def unexpected() -> Response:
    """The document of a fault of ours."""
    row = status_of(InternalError(""))
    return problem(row.http, row.title, "internal error; the log has more under this trace id")


def problem_of_http(error: HTTPException) -> Response:
    """The document of an error of the framework: a path or a method that is not served, a body that is too large."""
    # The body is the one part of a request that a framework refuses by itself.
    faults = [("body", error.detail)] if error.status_code in (400, 413, 415) else []
    title = responses.get(error.status_code, error.detail)
    return problem(error.status_code, title, error.detail, faults=faults, headers=error.headers)


async def on_pagi_error(_: Request, error: Exception) -> Response:
    """Exception handler for typed errors."""
    assert isinstance(error, PagiError)
    return problem_of(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Exception handler for errors of the framework; where its words are those of the status alone, ours say more."""
    assert isinstance(error, HTTPException)
    if error.detail == responses.get(error.status_code):
        error.detail = _wrong_address(request, error) or error.detail
    return problem_of_http(error)


def _wrong_address(request: Request, error: HTTPException) -> str:
    """What was asked for that is not served, and what to do; empty for other errors."""
    if error.status_code == 404:
        docs = getattr(request.app, "docs_url", "")
        return f"there is nothing at {request.url.path}" + (f"; {docs} shows what there is" if docs else "")
    allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
    return f"{request.url.path} takes {' and '.join(allowed)}, not {request.method}" if any(allowed) else ""


# The rest is left to HttpEdge: a handler for `Exception` would run outside of it, where no trace id is bound.
HANDLERS: dict[Any, Any] = {PagiError: on_pagi_error, HTTPException: on_http_error}
