"""Each dialect against aimock, a mock of the providers' APIs that others wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aimock_pytest import AIMockServer
from pagi_chassis.errors import PagiError
from pagi_gateway.adapters.http_provider import HttpProvider
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
)
from pagi_gateway.domain.model import FinishReason, Message, Plan, PlanRequest, Role, TextDelta, ToolCall
from pagi_gateway.testing import asking

Start = Callable[..., Awaitable[HttpProvider]]
MODEL = "gpt-4o-mini"


@pytest.fixture(params=["openai", "responses", "anthropic"])
async def provider(request: pytest.FixtureRequest, aimock_fresh: AIMockServer, provider_at: Start) -> HttpProvider:
    return await provider_at(request.param, f"{aimock_fresh.base_url}/v1", default_model=MODEL)


async def answered(provider: HttpProvider, request: PlanRequest, how: str) -> tuple[list[str], Plan]:
    if how == "whole":
        plan = await provider.plan(request, timeout_s=10)
        return [plan.text], plan
    events = [event async for event in provider.stream(request, timeout_s=10)]
    assert isinstance(events[-1], Plan)
    return [event.text for event in events if isinstance(event, TextDelta)], events[-1]


both = pytest.mark.parametrize("how", ["whole", "stream"])


@both
async def test_text(aimock_fresh: AIMockServer, provider: HttpProvider, how: str) -> None:
    text = "The heron stands in the r\u00ednver \U0001f426, and waits. " * 20
    aimock_fresh.on_message("heron", {"content": text})
    deltas, plan = await answered(provider, asking("where is the heron?", system="Be brief.", model=MODEL), how)
    assert "".join(deltas) == plan.text == text
    assert (plan.finish_reason, plan.model, plan.provider) == (FinishReason.STOP, MODEL, provider.name)
    assert plan.usage.cost_usd is None
    sent = await asyncio.to_thread(aimock_fresh.get_last_request)
    assert sent is not None
    assert [each["role"] for each in sent["body"]["messages"]] == ["system", "user"]


@both
async def test_parallel_tool_calls(aimock_fresh: AIMockServer, provider: HttpProvider, how: str) -> None:
    calls = [
        {"name": "math", "arguments": {"expression": "2+2"}},
        {"name": "web_search", "arguments": {"query": "h\u00e9ron \u201cgrey\u201d"}},
    ]
    aimock_fresh.on_message("both", {"toolCalls": calls}, chunkSize=3)
    _, plan = await answered(provider, asking("do both", tools=["math", "web_search"], model=MODEL), how)
    assert [(c.name, json.loads(c.arguments_json)) for c in plan.tool_calls] == [
        (call["name"], call["arguments"]) for call in calls
    ]
    assert plan.finish_reason is FinishReason.TOOL_CALLS
    assert len({call.id for call in plan.tool_calls}) == 2


@both
async def test_tool_results_are_understood(aimock_fresh: AIMockServer, provider: HttpProvider, how: str) -> None:
    aimock_fresh.add_fixture({"toolCallId": "call_7"}, {"content": "It is 4."})
    then = [
        Message(Role.ASSISTANT, tool_calls=(ToolCall("call_7", "math", '{"expression": "2+2"}'),)),
        Message(Role.TOOL, "4", tool_call_id="call_7"),
    ]
    _, plan = await answered(provider, asking("2+2", tools=["math"], then=then, model=MODEL), how)
    assert plan.text == "It is 4."


@both
async def test_usage(aimock_fresh: AIMockServer, provider: HttpProvider, how: str) -> None:
    aimock_fresh.on_message("count", {"content": "one two", "usage": {"prompt_tokens": 11, "completion_tokens": 2}})
    _, plan = await answered(provider, asking("count", model=MODEL), how)
    assert (plan.usage.input_tokens, plan.usage.output_tokens, plan.usage.reported) == (11, 2, True)


@both
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ProviderRejectedError),
        (401, ProviderAccessError),
        (403, ProviderAccessError),
        (404, ModelNotFoundError),
        (408, ProviderTimeoutError),
        (429, ProviderBusyError),
        (500, ProviderDownError),
        (503, ProviderDownError),
    ],
)
async def test_injected_errors_are_typed_and_tell_the_reason(
    aimock_fresh: AIMockServer, provider: HttpProvider, how: str, status: int, error: type[PagiError]
) -> None:
    aimock_fresh.on_message("x", {"content": "fine"})
    aimock_fresh.next_error(status, {"message": "herons everywhere", "type": "test"})
    with pytest.raises(error, match="herons everywhere"):
        await answered(provider, asking("x", model=MODEL), how)
    _, plan = await answered(provider, asking("x", model=MODEL), how)
    assert plan.text == "fine"


async def test_a_stream_that_is_cut_is_no_answer(aimock_fresh: AIMockServer, provider: HttpProvider) -> None:
    aimock_fresh.on_message("long", {"content": "word " * 50}, chunkSize=5, latency=2, truncateAfterChunks=4)
    with pytest.raises(ProviderDownError):
        await answered(provider, asking("long", model=MODEL), "stream")


async def test_a_slow_stream_runs_out_of_time(aimock_fresh: AIMockServer, provider: HttpProvider) -> None:
    aimock_fresh.on_message("slow", {"content": "word " * 50}, chunkSize=5, latency=20)
    got: list[str] = []

    async def listen() -> None:
        async for event in provider.stream(asking("slow", model=MODEL), timeout_s=0.25):
            got.append(getattr(event, "text", ""))

    with pytest.raises(ProviderTimeoutError):
        await listen()
    assert got, "what came in time was sent on"


async def test_models_are_listed_with_the_default(aimock_fresh: AIMockServer, provider: HttpProvider) -> None:
    models = await provider.models(timeout_s=5)
    assert (models[0].name, models[0].is_default) == (MODEL, True)
    assert all(each.provider == provider.name for each in models)
