"""What happens around every HTTP request: trace id, span, metrics, bounds. The counterpart of `grpc_edge`."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders

from pagi_chassis import correlation, telemetry
from pagi_chassis.errors import InvalidArgumentError
from pagi_chassis.problems import problem, problem_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("pagi_http_server_requests", "HTTP requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "pagi_http_server_duration_seconds",
    "Time from the arrival of an HTTP request to the end of its answer",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
TRACE_ID_CHARACTERS = 128
# Watched by machines every second: neither traced nor counted.
_UNOBSERVED = ("/health", "/metrics")


class HttpEdge:
    """ASGI middleware, the outermost one.

    Takes `X-Trace-ID` from the request or makes one, echoes it, and binds it for logs, spans and onward calls.

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
        given = headers.get("x-trace-id", "")
        trace_id = given or _trace_id_of(headers) or uuid.uuid4().hex
        answer = _Answer(send, trace_id)
        with correlation.bind(trace_id=trace_id), telemetry.attach(headers):
            if not _is_usable(trace_id):
                fault = InvalidArgumentError(
                    f"X-Trace-ID must be 1 to {TRACE_ID_CHARACTERS} printable ASCII characters", field="X-Trace-ID"
                )
                answer.trace_id = uuid.uuid4().hex
                with correlation.bind(trace_id=answer.trace_id):
                    await problem_of(fault)(scope, receive, answer)
            elif int(headers.get("content-length", "0")) > self._max_body_bytes:
                await self._refuse_body(scope, receive, answer)
            elif scope["path"].startswith(_UNOBSERVED):
                await self._app(scope, receive, answer)
            else:
                await self._observe(scope, self._bounded(receive), answer)

    async def _observe(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        began = time.perf_counter()
        method = scope["method"]
        try:
            with telemetry.span(method, "server", {"http.request.method": method}) as span:
                try:
                    await self._app(scope, receive, answer)
                except _BodyTooLargeError:
                    await self._refuse_body(scope, receive, answer)
                route = _route_of(scope)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.response.status_code", answer.status)
                span.set_attribute("pagi.trace_id", answer.trace_id)
        finally:
            route = _route_of(scope)
            REQUESTS.labels(method, route, str(answer.status)).inc()
            SECONDS.labels(method, route).observe(time.perf_counter() - began)

    def _bounded(self, receive: Receive) -> Receive:
        """Counts what arrives: a body may come without its length."""
        left = self._max_body_bytes

        async def receive_within() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _BodyTooLargeError
            return message

        return receive_within

    async def _refuse_body(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        detail = f"the body is larger than {self._max_body_bytes} bytes"
        # Connection: close, since what is still on its way is not read.
        response = problem(413, "Content too large", detail, faults=[("body", detail)], headers={"Connection": "close"})
        await response(scope, receive, answer)


class _BodyTooLargeError(Exception):
    pass


class _Answer:
    """Sends the answer on, with the trace id in its head, and remembers its status."""

    def __init__(self, send: Send, trace_id: str) -> None:
        self._send = send
        self.trace_id = trace_id
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Trace-ID"] = self.trace_id
        await self._send(message)


def _is_usable(trace_id: str) -> bool:
    return trace_id.isascii() and trace_id.isprintable() and len(trace_id) <= TRACE_ID_CHARACTERS


def _trace_id_of(headers: Headers) -> str:
    """The trace that the caller is part of, where it says so (W3C Trace Context)."""
    parts = headers.get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 and telemetry.is_w3c_trace_id(parts[1]) else ""


def _route_of(scope: Scope) -> str:
    """The path template, so that ids in paths do not multiply metrics."""
    route = scope.get("route")
    return getattr(route, "path", "") or "unmatched"
