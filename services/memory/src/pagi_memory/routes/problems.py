"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import logging
from typing import Any

from pagi_chassis import correlation
from pagi_chassis.errors import InternalError, InvalidArgumentError, PagiError
from pagi_chassis.statuses import status_of
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

log = logging.getLogger(__name__)


async def pagi_error(_: Request, error: Exception) -> Response:
    """A failure with a meaning for the caller."""
    assert isinstance(error, PagiError)
    status = status_of(error)
    field = {"field": error.field} if isinstance(error, InvalidArgumentError) and error.field else {}
    retry_after_s = getattr(error, "retry_after_s", None)
    headers = {"Retry-After": str(max(1, round(retry_after_s)))} if retry_after_s is not None else None
    return _problem(status.http, status.title, error.message, headers, **field)


async def http_error(_: Request, error: Exception) -> Response:
    """A path or a method that is not served."""
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail, error.detail, error.headers)


async def unexpected_error(_: Request, error: Exception) -> Response:
    """A fault of ours: the log has the rest."""
    log.error("a request failed", exc_info=error)
    status = status_of(InternalError(""))
    return _problem(status.http, status.title, "internal error")


def _problem(status: int, title: str, detail: str, headers: Any = None, **members: str) -> Response:
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "error": detail,
        "trace_id": correlation.current().trace_id,
        **members,
    }
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")
