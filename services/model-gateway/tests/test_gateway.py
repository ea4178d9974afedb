"""The domain: what is checked, and what a provider is given."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pagi_gateway.domain.call_ids import fresh_ids
from pagi_gateway.domain.errors import InvalidPlanRequestError, ProviderDownError
from pagi_gateway.domain.gateway import Gateway
from pagi_gateway.domain.model import Message, Plan, PlanRequest, Role, TextDelta, ToolCall, ToolSpec
from pagi_gateway.testing import RecordingProvider, asking

OK = asking("hello", tools=["math"])
CALL = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "math", "{"),))
RESULT = Message(Role.TOOL, "4", tool_call_id="c1")
USER = Message(Role.USER, "hello")


def request(*messages: Message, **members: object) -> PlanRequest:
    return replace(OK, messages=messages or OK.messages, model="", **members)  # type: ignore[arg-type]


WRONG = [
    (replace(OK, messages=()), "messages"),
    (request(USER, RESULT), "messages[1].tool_call_id"),
    (request(USER, RESULT, CALL), "messages[1].tool_call_id"),
    (request(USER, CALL, RESULT, RESULT), "messages[3].tool_call_id"),
    (request(replace(USER, tool_call_id="c1")), "messages[0].tool_call_id"),
    (request(replace(USER, tool_calls=CALL.tool_calls)), "messages[0].tool_calls"),
    (request(USER, replace(CALL, tool_calls=CALL.tool_calls * 2)), "messages[1].tool_calls[1].id"),
    (request(USER, replace(CALL, tool_calls=(ToolCall("", "math", ""),))), "messages[1].tool_calls[0].id"),
    (request(USER, replace(CALL, tool_calls=(ToolCall("c", "", ""),))), "messages[1].tool_calls[0].name"),
    (request(tools=(ToolSpec("a"), ToolSpec("b"), ToolSpec("a"))), "tools[2].name"),
    (request(tools=(ToolSpec(""),)), "tools[0].name"),
    (request(tools=(ToolSpec("a", "", "[]"),)), "tools[0].parameters_schema_json"),
    (request(tools=(ToolSpec("a", "", "{"),)), "tools[0].parameters_schema_json"),
    (request(tools=(ToolSpec("a", "", "[" * 100_000),)), "tools[0].parameters_schema_json"),
    (request(temperature=math.nan), "temperature"),
    (request(temperature=math.inf), "temperature"),
    (request(temperature=-0.1), "temperature"),
    (request(max_output_tokens=-1), "limits.max_output_tokens"),
    (request(max_cost_usd=-1.0), "limits.max_cost_usd"),
    (request(max_cost_usd=math.nan), "limits.max_cost_usd"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG, ids=[field for _, field in WRONG])
async def test_what_no_model_could_answer_is_refused_with_its_field(wrong: PlanRequest, field: str) -> None:
    provider = RecordingProvider()
    gateway = Gateway(provider, longest_s=10)
    with pytest.raises(InvalidPlanRequestError) as caught:
        await gateway.plan(wrong)
    assert caught.value.field == field
    with pytest.raises(InvalidPlanRequestError):
        [event async for event in gateway.stream(wrong)]
    assert provider.requests == []


@pytest.mark.parametrize(
    "right",
    [
        request(USER, CALL, RESULT),
        request(USER, CALL, RESULT, USER, CALL, RESULT),
        request(USER, CALL),
        request(temperature=0.0, max_output_tokens=1, max_cost_usd=0.1),
        request(Message(Role.SYSTEM, "")),
    ],
)
async def test_what_can_be_asked_is_asked_of_the_default_model(right: PlanRequest) -> None:
    provider = RecordingProvider()
    plan = await Gateway(provider, longest_s=10).plan(right)
    assert provider.requests == [replace(right, model="model-a")]
    assert plan.model == "model-a"


@pytest.mark.parametrize(("given", "had"), [(3.0, 3.0), (99.0, 10.0), (math.inf, 10.0), (-1.0, 0.0)])
async def test_time_is_the_callers_but_never_more_than_the_longest(given: float, had: float) -> None:
    provider = RecordingProvider()
    gateway = Gateway(provider, longest_s=10)
    await gateway.plan(request(), timeout_s=given)
    [event async for event in gateway.stream(request(), timeout_s=given)]
    assert provider.timeouts_s == [had, had]


async def test_latency_is_measured() -> None:
    ticks = iter([1.0, 1.25, 2.0, 2.125, 2.5])
    gateway = Gateway(RecordingProvider(), longest_s=10, clock=lambda: next(ticks))
    assert (await gateway.plan(request())).latency_ms == 250
    last = [event async for event in gateway.stream(request())][-1]
    assert isinstance(last, Plan)
    assert (last.first_token_ms, last.latency_ms) == (125, 500)


async def test_leaving_a_stream_ends_the_providers() -> None:
    provider = RecordingProvider()
    stream = Gateway(provider, longest_s=10).stream(request())
    assert await anext(stream) == TextDelta("all ")
    await stream.aclose()
    assert provider.left_early == 1


async def test_errors_of_the_provider_come_through() -> None:
    gateway = Gateway(RecordingProvider([ProviderDownError("gone", retry_after_s=3)]), longest_s=10)
    with pytest.raises(ProviderDownError, match="gone"):
        await gateway.plan(request())


def test_fresh_ids_are_not_in_the_conversation() -> None:
    used = Message(Role.ASSISTANT, tool_calls=(ToolCall("call_2", "a", ""),))
    ids = fresh_ids([used])
    assert [next(ids), next(ids), next(ids)] == ["call_1", "call_3", "call_4"]
