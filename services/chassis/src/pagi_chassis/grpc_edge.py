"""What happens around every RPC that a server answers: ids, deadline, trace, metrics, errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from prometheus_client import Counter, Histogram

from pagi_chassis import correlation, deadline, telemetry
from pagi_chassis.errors import InternalError, PagiError
from pagi_chassis.statuses import status_of

log = logging.getLogger(__name__)

# Generic for the type checker only.
if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

RPCS = Counter("pagi_rpc_server_calls", "RPCs answered", ["method", "code"])
SECONDS = Histogram(
    "pagi_rpc_server_duration_seconds",
    "Time from the arrival of an RPC to its end",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
_NO_SPAN = nullcontext()


class EdgeRegistry:
    """Stands before a server while services register, and wraps each of their methods once.

    No interceptor: grpc.aio would resolve the method through it again in every call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Takes the methods of a service, by their short names; see `grpc.aio.Server`."""
        wrapped = {name: _wrap(f"/{service}/{name}", handler) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)  # type: ignore[attr-defined]  # newer than stubs

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Nothing: generated code gives the same methods by name as well."""


def _wrap(method: str, handler: Handler) -> Handler:
    make: Any
    inner: Any
    make, inner = next(
        (make, inner)
        for make, inner in (
            (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        )
        if inner
    )
    edge = _answer_stream(method, inner) if handler.response_streaming else _answer(method, inner)
    wrapped: Handler = make(
        edge,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return wrapped


def _answer(method: str, inner: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    call = _Call(method)

    async def answer(request: Any, context: Context) -> Any:
        began = time.perf_counter()
        metadata = call.enter(context)
        code = "OK"
        try:
            with call.span(metadata):
                return await inner(request, context)
        except BaseException as error:  # noqa: BLE001 - raised again by _abort
            code = _code_of(error, context)
            await _abort(method, context, error)
        finally:
            call.done(code, began)

    return answer


def _answer_stream(
    method: str, inner: Callable[[Any, Context], AsyncIterator[Any]]
) -> Callable[[Any, Context], Awaitable[None]]:
    call = _Call(method)

    # It writes instead of yielding: a generator that the caller leaves is ended by the garbage collector, in another
    # task and context, where the handler can close nothing that it opened.
    async def answer(request: Any, context: Context) -> None:
        began = time.perf_counter()
        metadata = call.enter(context)
        code = "OK"
        messages = inner(request, context)
        try:
            with call.span(metadata):
                async for message in messages:
                    await _write(context, message)
        except BaseException as error:  # noqa: BLE001 - raised again by _abort
            code = _code_of(error, context)
            await _abort(method, context, error)
        finally:
            if (close := getattr(messages, "aclose", None)) is not None:
                await close()
            call.done(code, began)

    return answer


async def _write(context: Context, message: Any) -> None:
    try:
        await context.write(message)
    except grpc.aio.InternalError as error:
        # gRPC could not send: the caller has left.
        raise asyncio.CancelledError from error


class _Call:
    """What is the same for every call of a method."""

    def __init__(self, method: str) -> None:
        self._method = method.lstrip("/")
        self._seconds = SECONDS.labels(self._method)
        self._counts: dict[str, Counter] = {}
        service, _, name = self._method.rpartition("/")
        # OpenTelemetry semantic conventions for RPC spans.
        self._attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}

    def enter(self, context: Context) -> dict[str, Any]:
        """Adopts the caller's ids and deadline. Returns the metadata."""
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        correlation.adopt(correlation.from_metadata(metadata))
        deadline.adopt(context.time_remaining())
        return metadata

    def span(self, metadata: dict[str, Any]) -> AbstractContextManager[object]:
        """The server span, within the trace that the caller is part of."""
        if not telemetry.is_on():
            return telemetry.attach(metadata) if "traceparent" in metadata else _NO_SPAN
        trace_id = correlation.current().trace_id
        attributes = {**self._attributes, "pagi.trace_id": trace_id} if trace_id else self._attributes
        return telemetry.span(self._method, "server", attributes, parent=metadata)

    def done(self, code: str, began: float) -> None:
        """Counts the call."""
        if (count := self._counts.get(code)) is None:
            self._counts[code] = count = RPCS.labels(self._method, code)
        count.inc()
        self._seconds.observe(time.perf_counter() - began)


def _code_of(error: BaseException, context: Context) -> str:
    if isinstance(error, grpc.aio.AbortError):
        code = context.code()
        return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
    if isinstance(error, PagiError):
        return status_of(error).grpc.name
    if isinstance(error, asyncio.CancelledError):
        return "CANCELLED"
    return "INTERNAL"


async def _abort(method: str, context: Context, error: BaseException) -> NoReturn:
    """Ends the call with the status of the error. The unexpected is logged; the caller reads its trace id only."""
    if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, PagiError):
        log.error("%s failed", method, exc_info=error)
        error = InternalError(f"internal error (trace id {correlation.current().trace_id or 'none'})")
    # Imported at the first failure: a service that starts needs no error details.
    from pagi_chassis.error_details import to_message, to_trailers

    await context.abort(status_of(error).grpc, to_message(error), to_trailers(error))
    raise AssertionError("abort() raises")
