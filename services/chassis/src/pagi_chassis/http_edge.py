"""What happens around every HTTP request: trace id, span, metrics, bounds. The counterpart of `grpc_edge`."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from pagi_chassis import correlation, telemetry
from pagi_chassis.errors import InvalidArgumentError, PagiError
from pagi_chassis.ids import new_id
from pagi_chassis.problems import problem_of, problem_of_http, unexpected

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

REQUESTS = Counter("pagi_http_server_requests", "HTTP requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "pagi_http_server_duration_seconds",
    "Time from the arrival of an HTTP request to the end of its answer",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
TRACE_ID_CHARACTERS = 128
# How long a body that is refused is still taken in.
LINGER_S = 2.0
# Watched by machines every second: neither traced nor counted.
_UNOBSERVED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})


class HttpEdge:
    """ASGI middleware, the outermost one.

    Takes `X-Trace-ID` from the request or makes one, echoes it, and binds it for logs, spans and onward calls. Whatever
    the application lets through becomes a problem document without detail, and a line in the log with all of it.

    Args:
        app: What answers.
        max_body_bytes: Larger bodies are refused with 413, before they are read where their length is told.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, _trace_id_of(headers))
        with correlation.bind(trace_id=answer.trace_id), telemetry.attach(headers):
            if scope["path"] in _UNOBSERVED:
                await self._serve(scope, receive, answer)
            else:
                await self._observe(scope, receive, answer)

    async def _observe(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        began = time.perf_counter()
        method = scope["method"]
        try:
            with telemetry.span(method, "server", {"http.request.method": method}) as span:
                await self._serve(scope, receive, answer)
                span.update_name(f"{method} {_route_of(scope)}")
                span.set_attribute("http.response.status_code", answer.status)
                span.set_attribute("pagi.trace_id", answer.trace_id)
        finally:
            route = _route_of(scope)
            REQUESTS.labels(method, route, str(answer.status)).inc()
            SECONDS.labels(method, route).observe(time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._check(Headers(scope=scope), receive)
            await self._app(scope, self._bounded(receive), answer)
        except Exception as error:
            if answer.has_begun:
                # Too late for a document: the server breaks the connection off, so that the caller notices.
                raise
            await _response_to(error, scope)(scope, receive, answer)

    async def _check(self, headers: Headers, receive: Receive) -> None:
        if not _is_usable(headers.get("x-trace-id", "")):
            raise InvalidArgumentError(
                f"X-Trace-ID must be 1 to {TRACE_ID_CHARACTERS} printable ASCII characters", field="X-Trace-ID"
            )
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise InvalidArgumentError("Content-Length must be a number of bytes", field="Content-Length")
        # The number of digits is looked at first: Python refuses to read very long numbers.
        if len(length) > 18 or int(length) > self._max_body_bytes:
            # A caller that waits for "100 Continue" has sent nothing yet.
            if headers.get("expect", "").lower() != "100-continue":
                await _discard(receive)
            raise BodyTooLargeError(self._max_body_bytes)

    def _bounded(self, receive: Receive) -> Receive:
        """Counts what arrives: a body may come without its length."""
        left = self._max_body_bytes

        async def receive_within() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                if message.get("more_body"):
                    await _discard(receive)
                raise BodyTooLargeError(self._max_body_bytes)
            return message

        return receive_within


async def _discard(receive: Receive) -> None:
    """Takes in what is still on its way, for a while: a connection closed over unread data loses the answer with it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body"):
                pass


class BodyTooLargeError(HTTPException):
    """The body is longer than is taken. A framework's own error, since frameworks swallow others as they read."""

    def __init__(self, most: int) -> None:
        # Connection: close, since whatever is still on its way is not read.
        super().__init__(413, f"the body is larger than {most} bytes", {"Connection": "close"})


class _Answer:
    """Sends the answer on, with the trace id in its head, and remembers its status."""

    def __init__(self, send: Send, trace_id: str) -> None:
        self._send = send
        self.trace_id = trace_id
        self.status = 500
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Trace-ID"] = self.trace_id
        await self._send(message)


def _response_to(error: Exception, scope: Scope) -> Response:
    if isinstance(error, PagiError):
        return problem_of(error)
    if isinstance(error, HTTPException):
        return problem_of_http(error)
    log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
    return unexpected()


def _is_usable(trace_id: str) -> bool:
    return trace_id.isascii() and trace_id.isprintable() and len(trace_id) <= TRACE_ID_CHARACTERS


def _trace_id_of(headers: Headers) -> str:
    """What the caller gave, else the trace that it says it is part of (W3C Trace Context), else a new one."""
    given = headers.get("x-trace-id", "")
    if given and _is_usable(given):
        return given
    parts = headers.get("traceparent", "").split("-")
    if len(parts) == 4 and telemetry.is_w3c_trace_id(parts[1]):
        return parts[1]
    return new_id()


def _route_of(scope: Scope) -> str:
    """The path template, so that ids in paths do not multiply metrics."""
    route = scope.get("route")
    return getattr(route, "path", "") or "unmatched"
