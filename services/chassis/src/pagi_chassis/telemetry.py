"""Spans, and the trace context that joins processes (W3C Trace Context).

Lean on purpose: one server span a request and a few named ones inside. The contributed gRPC instrumentation
was measured at 40 % of throughput; this costs a tenth of it. With no endpoint set there are no spans, and the
context that a caller sent is passed on as it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from string import hexdigits
from threading import Thread
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pagi_chassis import correlation

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.util.types import AttributeValue

LAST_SPANS_S = 3.0  # what a receiver that is away may cost at the end of a process

_propagator = TraceContextTextMapPropagator()
_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class _Tracing:
    """The process's tracer; without one a span is nothing."""

    provider: TracerProvider | None = None
    tracer: trace.Tracer | None = None


def set_up(service: str, endpoint: str, protocol: str = "grpc") -> None:
    """Sends spans to an OTLP receiver.

    Args:
        service: The `service.name` of every span.
        endpoint: URL of the receiver; empty: no spans are made.
        protocol: `grpc` or `http/protobuf`.
    """
    if endpoint:
        set_up_exporter(service, _otlp_exporter(endpoint, protocol))


def set_up_exporter(service: str, exporter: SpanExporter) -> None:
    """Sends spans to an exporter, in batches.

    A trace that begins where the correlation's trace id can be the id of a trace gets that id, so that a caller finds
    it under the id that it knows.
    """
    # Imported here: a process without tracing does without the SDK's 20 ms and 4 MB.
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class ChosenIds(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            chosen = correlation.current().trace_id
            return int(chosen, 16) if is_w3c_trace_id(chosen) else super().generate_trace_id()

    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), id_generator=ChosenIds(), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _Tracing.provider = provider
    _Tracing.tracer = provider.get_tracer("pagi")


def shut_down() -> None:
    """Sends what is still held, for up to 3 s, then stops."""
    if _Tracing.provider:
        # The SDK itself would wait 30 s for a receiver that is away.
        sending = Thread(target=_Tracing.provider.shutdown, daemon=True)
        sending.start()
        sending.join(LAST_SPANS_S)
    _Tracing.provider = _Tracing.tracer = None


def is_on() -> bool:
    """Whether spans are made in this process."""
    return _Tracing.tracer is not None


@contextmanager
def span(
    name: str,
    kind: str = "internal",
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    parent: Mapping[str, str] | None = None,
) -> Iterator[trace.Span]:
    """A span around the block. An exception marks it as failed and goes on.

    Args:
        name: Low in cardinality, e.g. `chat mock-1`.
        kind: One of internal, server, client, producer, consumer.
        attributes: A few; each costs.
        parent: Headers with the trace context of the parent; None: the current span is the parent.
    """
    if _Tracing.tracer is None:
        yield trace.INVALID_SPAN
        return
    context = None if parent is None else _propagator.extract(parent)
    current = _Tracing.tracer.start_span(name, context, _KINDS[kind], attributes)
    try:
        with _within(trace.set_span_in_context(current, context)):
            yield current
    except Exception as error:
        current.record_exception(error)
        current.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
    finally:
        current.end()


def is_w3c_trace_id(text: str) -> bool:
    """Whether the text can be the id of a trace: 32 hex digits, not all zero (W3C Trace Context, 3.2.2.3)."""
    return len(text) == 32 and all(digit in hexdigits for digit in text) and set(text) != {"0"}


def inject() -> dict[str, str]:
    """The current trace context as headers (`traceparent`, `tracestate`); empty where there is none."""
    headers: dict[str, str] = {}
    _propagator.inject(headers)
    return headers


@contextmanager
def attach(headers: Mapping[str, str]) -> Iterator[None]:
    """Makes the trace context in the headers the current one for the block."""
    if "traceparent" not in headers:
        yield
        return
    with _within(_propagator.extract(headers)):
        yield


@contextmanager
def _within(context: otel_context.Context) -> Iterator[None]:
    before = otel_context.get_current()
    otel_context.attach(context)
    try:
        yield
    finally:
        # Not detach(): an abandoned generator is ended in another context, which would refuse the token.
        otel_context.attach(before)


def _otlp_exporter(endpoint: str, protocol: str) -> SpanExporter:
    # Each brings a transport of its own, so only the one that is used is imported.
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc(endpoint=endpoint, insecure=not endpoint.startswith("https"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return Http(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
