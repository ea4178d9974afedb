"""What is measured of an answer: a span and three metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pagi_chassis import telemetry
from pagi_gateway.adapters.telemetry_contents import input_messages
from pagi_gateway.adapters.telemetry_provider import MOST_MODEL_LABELS, TelemetryProvider
from pagi_gateway.domain.board import Board
from pagi_gateway.domain.content import Part, PartKind
from pagi_gateway.domain.errors import ProviderBusyError
from pagi_gateway.domain.model import FinishReason, Plan, ToolCall, Usage
from pagi_gateway.domain.router import Router
from pagi_gateway.domain.routes import Choice, Route, Routes, Target
from pagi_gateway.testing import ManualClock, RecordingProvider, RecordingWatch, asking
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


async def test_every_attempt_is_a_span_of_its_target(spans: InMemorySpanExporter) -> None:
    sources = {
        name: TelemetryProvider(RecordingProvider([answer]), target=name)
        for name, answer in {"one": ProviderBusyError("slow down"), "two": PLAN}.items()
    }
    targets = {name: Target(name, "recording", "model-a") for name in sources}
    routes = Routes(targets, {"default": Route("default", (Choice("one", 1), Choice("two", 2)))}, "default")
    clock = ManualClock()
    board = Board(routes, sources, random=lambda: 0.0, now=clock.now())
    router = Router(board, clock=clock, random=lambda: 0.0, watch=RecordingWatch())
    await router.plan(asking("hi", model="default"), timeout_s=5)
    telemetry.shut_down()
    told = [dict(span.attributes or {}) for span in spans.get_finished_spans()]
    assert [(each["pagi.target"], each.get("error.type")) for each in told] == [
        ("one", "ProviderBusyError"),
        ("two", None),
    ]


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


async def test_the_first_piece_of_a_stream_is_timed_and_a_whole_answer_has_none() -> None:
    provider = TelemetryProvider(RecordingProvider([PLAN], name="first"))
    await provider.plan(REQUEST, timeout_s=5)
    name, labels = "pagi_gateway_time_to_first_token_seconds_count", {"provider": "first", "model": "model-a"}
    assert counted(name, **labels) == 0
    [event async for event in provider.stream(REQUEST, timeout_s=5)]
    assert counted(name, **labels) == 1


async def test_cost_is_counted_where_it_is_known() -> None:
    priced = replace(PLAN, usage=Usage(7, 3, cost_usd=0.25, reported=True))
    provider = TelemetryProvider(RecordingProvider([priced, PLAN], name="priced"))
    await provider.plan(REQUEST, timeout_s=5)
    await provider.plan(REQUEST, timeout_s=5)
    assert counted("pagi_gateway_cost_usd_total", provider="priced", model="model-a") == 0.25


@pytest.mark.parametrize("contents", [False, True])
async def test_contents_are_in_a_span_only_where_that_is_chosen(spans: InMemorySpanExporter, contents: bool) -> None:
    called = replace(PLAN, tool_calls=(ToolCall("c", "math", "{}"),))
    image = Part(PartKind.IMAGE, data=b"pixels of a heron", media_type="image/png")
    request = replace(REQUEST, messages=(replace(REQUEST.messages[0], text="secret question", parts=(image,)),))
    await TelemetryProvider(RecordingProvider([called]), contents=contents).plan(request, timeout_s=5)
    telemetry.shut_down()
    (span,) = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    if not contents:
        assert "secret question" not in str(attributes)
        assert "hello" not in str(attributes)
        return
    question, answer = (json.loads(str(attributes[f"gen_ai.{side}.messages"])) for side in ("input", "output"))
    assert question == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "secret question"},
                {"type": "blob", "modality": "image", "mime_type": "image/png"},
            ],
        }
    ]
    assert [part["type"] for part in answer[0]["parts"]] == ["text", "tool_call"]
    assert answer[0]["finish_reason"] == "length"


async def test_a_long_conversation_is_told_by_its_newest_messages() -> None:
    request = asking("the last", earlier=["x" * 10_000] * 10, model="model-a")
    told = json.loads(input_messages(request))
    assert told[-1]["parts"] == [{"type": "text", "content": "the last"}]
    assert len(told) < 10
