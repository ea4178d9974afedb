"""What a request asks: its tenant, numbers, JSON and text, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError
from starlette.datastructures import Headers

from pagi_memory.domain.limits import checked_tenant

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send


class TenantOfHeader:
    """ASGI middleware: `X-Tenant` says whose memory is meant; absent: that of the one who has no tenant.

    The port is for the inside of an installation. Whoever may call it may name any tenant; PAGI_API_KEY bounds who
    that is. People outside come through the planner, which says itself which tenant they are.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request.

        Raises:
            InvalidArgumentError: The tenant can be none.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        tenant = correlation.from_metadata({"x-tenant": Headers(scope=scope).get("x-tenant", "")}).tenant
        with correlation.bind(tenant=checked_tenant(tenant)):
            await self._app(scope, receive, send)


def tenant() -> str:
    """The tenant of this request."""
    return correlation.current().tenant


def number(request: Request, name: str, most: int) -> int:
    """A number of the query, 1 to `most`; 0 (the default) where there is none.

    Raises:
        InvalidArgumentError: It is none of these.
    """
    text = request.query_params.get(name)
    if text is None:
        return 0
    # Not int() alone: it takes "1_0", digits of other scripts, and 5,000 of them.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidArgumentError(f"{name} must be a number between 1 and {most}.", field=name)
    return int(text)


def text(request: Request, name: str) -> str:
    """A text of the query; empty where there is none."""
    return request.query_params.get(name, "")


async def members(request: Request, *allowed: str) -> dict[str, str]:
    """The members of a JSON object that hold texts. Its media type must say that it is one.

    Without that a page in a browser could write here: a form's media types are sent without asking first.

    Raises:
        InvalidArgumentError: It is no such object, or holds other members.
    """
    _check_media_type(request, "application/json")
    try:
        body: Any = await request.json()
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"the body is not JSON: {error}", field="body") from error
    if not isinstance(body, dict) or not body:
        raise InvalidArgumentError(f"the body must be an object with any of: {', '.join(allowed)}", field="body")
    for name, value in body.items():
        if name not in allowed:
            raise InvalidArgumentError(f"there is no such field; known are: {', '.join(allowed)}", field=name)
        if not isinstance(value, str):
            raise InvalidArgumentError("must be a text", field=name)
    return body


async def lines(request: Request) -> str:
    """A body of JSON Lines.

    Raises:
        InvalidArgumentError: Its media type is another, or it is not UTF-8.
    """
    _check_media_type(request, "application/x-ndjson", "application/jsonl")
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"the body is not UTF-8: {error}", field="body") from error


def _check_media_type(request: Request, *allowed: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in allowed:
        raise InvalidArgumentError(f"must be {' or '.join(allowed)}", field="Content-Type")
