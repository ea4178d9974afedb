"""What is measured of an answer: a span and three metrics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pagi_chassis import telemetry
from pagi_gateway.adapters.telemetry_provider import MOST_MODEL_LABELS, TelemetryProvider
from pagi_gateway.domain.errors import ProviderBusyError
from pagi_gateway.domain.model import FinishReason, Plan, Usage
from pagi_gateway.testing import RecordingProvider, asking
from prometheus_client import REGISTRY

PLAN = Plan("hello", usage=Usage(7, 3, reported=True), finish_reason=FinishReason.LENGTH)
REQUEST = asking("hi", model="model-a")


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    telemetry.set_up_exporter("model-gateway", exporter)
    yield exporter
    telemetry.shut_down()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def requests(provider: str, outcome: str, model: str = "model-a") -> float:
    return counted("pagi_gateway_requests_total", provider=provider, model=model, outcome=outcome)


@pytest.mark.parametrize("how", ["whole", "stream"])
async def test_an_answer_is_a_span(spans: InMemorySpanExporter, how: str) -> None:
    provider = TelemetryProvider(RecordingProvider([PLAN]))
    if how == "whole":
        await provider.plan(REQUEST, timeout_s=5)
    else:
        [event async for event in provider.stream(REQUEST, timeout_s=5)]
    telemetry.shut_down()
    (span,) = spans.get_finished_spans()
    assert span.name == "chat model-a"
    attributes = dict(span.attributes or {})
    first_s = attributes.pop("gen_ai.response.time_to_first_chunk", None)
    assert (first_s is not None) is (how == "stream")
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "recording",
        "gen_ai.request.model": "model-a",
        "gen_ai.response.model": "model-a",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
    }


async def test_a_failure_marks_the_span_and_counts_by_its_kind(spans: InMemorySpanExporter) -> None:
    provider = TelemetryProvider(RecordingProvider([ProviderBusyError("slow down")], name="busy"))
    with pytest.raises(ProviderBusyError):
        await provider.plan(REQUEST, timeout_s=5)
    telemetry.shut_down()
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ProviderBusyError"
    assert requests("busy", "ProviderBusy") == 1


async def test_an_answer_is_counted() -> None:
    provider = TelemetryProvider(RecordingProvider([PLAN], name="counted"))
    await provider.plan(REQUEST, timeout_s=5)
    labels = {"provider": "counted", "model": "model-a"}
    assert requests("counted", "ok") == 1
    assert counted("pagi_gateway_tokens_total", **labels, direction="input") == 7
    assert counted("pagi_gateway_tokens_total", **labels, direction="output") == 3
    assert counted("pagi_gateway_request_duration_seconds_count", **labels) == 1


async def test_a_stream_that_is_left_is_counted_as_cancelled() -> None:
    provider = TelemetryProvider(RecordingProvider([PLAN], name="left"))
    stream = provider.stream(REQUEST, timeout_s=5)
    await anext(stream)
    await stream.aclose()
    assert requests("left", "cancelled") == 1


async def test_callers_cannot_make_labels_without_end() -> None:
    names = tuple(f"model-{n}" for n in range(100))
    provider = TelemetryProvider(RecordingProvider([PLAN], name="many", served=names))
    for name in names:
        await provider.plan(asking("hi", model=name), timeout_s=5)
    with pytest.raises(Exception, match="no-such"):
        await provider.plan(asking("hi", model="no-such"), timeout_s=5)
    labels = {
        sample.labels["model"]
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.labels.get("provider") == "many"
    }
    assert len(labels) <= MOST_MODEL_LABELS + 1
    assert "other" in labels
    assert "no-such" not in labels
