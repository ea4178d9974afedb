"""The gRPC edge, over a real channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PagiError,
    ResourceExhaustedError,
    UnavailableError,
)
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.testing import serving
from pagi_gateway.adapters.http_provider import HttpProvider
from pagi_gateway.adapters.mock_provider import MockProvider
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
    UnsupportedError,
    WrongShapeError,
)
from pagi_gateway.domain.fitting import FittingProvider
from pagi_gateway.domain.gateway import Gateway
from pagi_gateway.domain.model import FinishReason, Plan, ToolCall, Usage
from pagi_gateway.domain.ports import Provider
from pagi_gateway.servicer import SERVICE_NAME, ModelGatewayServicer
from pagi_gateway.testing import RecordingProvider


class Caller:
    """A client of the gateway."""

    def __init__(self, client: GrpcClient) -> None:
        self._client = client
        self.stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)

    async def plan(self, request: pb.GetPlanRequest, timeout_s: float = 5) -> pb.GetPlanResponse:
        return await self._client.call(self.stub.GetPlan, request, timeout_s=timeout_s)

    def stream(self, request: pb.GetPlanRequest, timeout_s: float = 5) -> AsyncIterator[pb.StreamPlanResponse]:
        return self._client.stream(self.stub.StreamPlan, pb.StreamPlanRequest(plan=request), timeout_s=timeout_s)

    async def models(self) -> pb.ListModelsResponse:
        return await self._client.call(self.stub.ListModels, pb.ListModelsRequest(), timeout_s=5)


@asynccontextmanager
async def calling(provider: Provider, longest_s: float = 30) -> AsyncIterator[Caller]:
    servicer = ModelGatewayServicer(Gateway(provider, longest_s=longest_s))
    register = gateway_pb2_grpc.add_ModelGatewayServicer_to_server
    async with serving(register, servicer, SERVICE_NAME) as client:
        yield Caller(client)


def asked(text: str = "What is 2+2? note to PROP-1: ok", *tools: str, model: str = "") -> pb.GetPlanRequest:
    return pb.GetPlanRequest(
        messages=[pb.Message(role=pb.ROLE_USER, text=text)],
        tools=[pb.ToolSpec(name=name, parameters_schema_json='{"type": "object"}') for name in tools],
        model=model,
    )


async def test_two_steps_of_an_agent_with_the_mock() -> None:
    async with calling(MockProvider()) as caller:
        request = asked("What is 2+2? note to PROP-1: ok", "math", "governance_note")
        first = await caller.plan(request)
        assert [call.name for call in first.tool_calls] == ["math", "governance_note"]
        assert first.finish_reason == pb.FINISH_REASON_TOOL_CALLS
        assert (first.model, first.provider) == ("mock", "mock")
        assert first.usage.reported
        assert first.usage.cost_usd == 0
        assert first.latency_ms > 0
        request.messages.append(pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=first.tool_calls))
        for call in first.tool_calls:
            result = "4" if call.name == "math" else "stored"
            request.messages.append(pb.Message(role=pb.ROLE_TOOL, text=result, tool_call_id=call.id))
        second = await caller.plan(request)
        assert "2+2 = 4" in second.text
        assert not second.tool_calls


async def test_a_stream_ends_in_the_whole_answer() -> None:
    async with calling(MockProvider()) as caller:
        events = [event async for event in caller.stream(asked("What is the capital of France?"))]
        whole = events[-1].response
        assert "".join(event.text_delta for event in events[:-1]) == whole.text
        assert len(events) > 10
        plan = await caller.plan(asked("What is the capital of France?"))
        assert 0 < whole.first_token_ms <= whole.latency_ms
        plan.latency_ms, plan.first_token_ms = whole.latency_ms, whole.first_token_ms
        assert whole == plan


async def test_every_part_of_an_answer_crosses_the_wire() -> None:
    plan = Plan("t", (ToolCall("i", "n", '{"a"'),), Usage(1, 2, 0.5, reported=True), FinishReason.OTHER)
    async with calling(RecordingProvider([plan, Plan("x")])) as caller:
        got = await caller.plan(asked())
        assert (got.text, got.provider, got.finish_reason) == ("t", "recording", pb.FINISH_REASON_OTHER)
        assert got.tool_calls == [pb.ToolCall(id="i", name="n", arguments_json='{"a"')]
        assert got.usage == pb.Usage(input_tokens=1, output_tokens=2, cost_usd=0.5, reported=True)
        assert not (await caller.plan(asked())).usage.HasField("cost_usd")


async def test_every_part_of_a_request_crosses_the_wire() -> None:
    provider = RecordingProvider()
    async with calling(provider) as caller:
        request = asked("hello", "math", model="model-b")
        request.limits.max_output_tokens = 9
        request.limits.max_cost_usd = 0.5
        request.effect_id = "run/1/0"
        request.temperature = 0.0
        await caller.plan(request, timeout_s=20)
        await caller.plan(asked("hello"))
    first, second = provider.requests
    assert (first.model, first.max_output_tokens, first.max_cost_usd) == ("model-b", 9, 0.5)
    assert (first.effect_id, first.temperature, first.tools[0].name) == ("run/1/0", 0.0, "math")
    assert (second.model, second.temperature) == ("model-a", None)
    # gRPC rounds the time up on its way.
    assert 10 < provider.timeouts_s[0] < 20.5
    assert provider.timeouts_s[1] < 10


async def test_the_models_are_listed() -> None:
    async with calling(RecordingProvider()) as caller:
        models = (await caller.models()).models
    assert [(each.name, each.provider, each.is_default) for each in models] == [
        ("model-a", "recording", True),
        ("model-b", "recording", False),
    ]


@pytest.mark.parametrize("role", [0, 77])
async def test_an_unknown_role_is_an_invalid_argument_with_its_field(role: int) -> None:
    request = asked()
    request.messages.add(role=role)  # type: ignore[arg-type]
    async with calling(MockProvider()) as caller:
        for ask in (caller.plan, drained(caller)):
            with pytest.raises(InvalidArgumentError) as caught:
                await ask(request)
            assert caught.value.field == "messages[1].role"


async def test_an_empty_request_is_an_invalid_argument_with_its_field() -> None:
    async with calling(MockProvider()) as caller:
        with pytest.raises(InvalidArgumentError) as caught:
            await caller.plan(pb.GetPlanRequest())
        assert caught.value.field == "messages"


async def test_an_unknown_model_is_not_found() -> None:
    async with calling(MockProvider()) as caller:
        with pytest.raises(NotFoundError, match="gpt-9"):
            await caller.plan(asked(model="gpt-9"))


def drained(caller: Caller) -> Callable[[pb.GetPlanRequest], Awaitable[object]]:
    async def drain(request: pb.GetPlanRequest) -> object:
        return [event async for event in caller.stream(request)]

    return drain


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ModelNotFoundError("why"), NotFoundError),
        (ProviderRejectedError("why"), InvalidArgumentError),
        (ProviderAccessError("why"), FailedPreconditionError),
        (ProviderBusyError("why", retry_after_s=7), ResourceExhaustedError),
        (ProviderDownError("why", retry_after_s=7), UnavailableError),
        (ProviderAnswerError("why"), UnavailableError),
        (WrongShapeError("why"), UnavailableError),
        (UnsupportedError("why"), FailedPreconditionError),
        (ProviderTimeoutError("why"), DeadlineExceededError),
    ],
)
async def test_every_failure_has_its_status(error: PagiError, seen: type[PagiError]) -> None:
    async with calling(RecordingProvider([error])) as caller:
        for ask in (caller.plan, drained(caller)):
            with pytest.raises(seen, match="why") as caught:
                await ask(asked())
            assert getattr(caught.value, "retry_after_s", 1) == getattr(error, "retry_after_s", 1)


async def test_the_unexpected_is_internal_without_detail() -> None:
    async with calling(RecordingProvider([RuntimeError("secret detail")])) as caller:
        with pytest.raises(InternalError) as caught:
            await caller.plan(asked())
        assert "secret" not in caught.value.message


async def test_the_longest_time_ends_a_call_that_has_more() -> None:
    async with calling(RecordingProvider(gate=asyncio.Event()), longest_s=0.05) as caller:
        with pytest.raises(DeadlineExceededError):
            await caller.plan(asked(), timeout_s=30)


async def test_leaving_a_stream_closes_the_upstream_socket(
    raw_server: Any, openai_at: Callable[..., Awaitable[HttpProvider]]
) -> None:
    closed = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin_stream()
        await exchange.event({"choices": [{"delta": {"content": "one "}}]})
        await exchange.hung_up()
        closed.set()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    async with calling(provider) as caller:
        call = caller.stub.StreamPlan(pb.StreamPlanRequest(plan=asked()), timeout=30)
        assert (await call.read()).text_delta == "one "
        call.cancel()
        await asyncio.wait_for(closed.wait(), 5)


async def test_leaving_a_call_closes_the_upstream_socket(
    raw_server: Any, openai_at: Callable[..., Awaitable[HttpProvider]]
) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def answer(exchange: Any) -> None:
        begun.set()
        await exchange.hung_up()
        closed.set()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    async with calling(provider) as caller:
        call = caller.stub.GetPlan(asked(), timeout=30)
        await asyncio.wait_for(begun.wait(), 5)
        call.cancel()
        await asyncio.wait_for(closed.wait(), 5)


async def test_the_callers_deadline_ends_the_upstream_call(
    raw_server: Any, openai_at: Callable[..., Awaitable[HttpProvider]]
) -> None:
    closed = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.hung_up()
        closed.set()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    async with calling(provider) as caller:
        with pytest.raises(DeadlineExceededError):
            await caller.plan(asked(), timeout_s=0.2)
        await asyncio.wait_for(closed.wait(), 5)


async def test_many_callers_at_once_get_their_own_answers() -> None:
    async with calling(MockProvider()) as caller:
        plans = await asyncio.gather(*(caller.plan(asked(f"What is {n} + 1?", "math")) for n in range(64)))
    assert [json.loads(each.tool_calls[0].arguments_json)["expression"] for each in plans] == [
        f"{n} + 1" for n in range(64)
    ]


async def test_reasoning_and_calls_stream_beside_the_text(
    raw_server: Any, provider_at: Callable[..., Awaitable[HttpProvider]]
) -> None:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": "claude-x", "usage": {"input_tokens": 9}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I look."}},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "c1", "name": "look", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]

    async def answer(exchange: Any) -> None:
        await exchange.begin_stream()
        for event in events:
            await exchange.event(event)
        await exchange.end_stream()

    server = await raw_server(answer)
    provider = FittingProvider(await provider_at("anthropic", server.base_url))
    async with calling(provider) as caller:
        request = asked("look", "look")
        request.seed = 7
        with pytest.raises(FailedPreconditionError, match="seed: claude-sonnet-4-5 of anthropic cannot"):
            await drained(caller)(request)
        assert server.exchanges == []
        request.on_unsupported = pb.ON_UNSUPPORTED_LEAVE_OUT
        *deltas, last = [event async for event in caller.stream(request)]
    kinds = [event.WhichOneof("event") for event in deltas]
    assert [kind for index, kind in enumerate(kinds) if kinds[index - 1 : index] != [kind]] == [
        "reasoning_delta",
        "text_delta",
        "tool_call_delta",
    ]
    plan = last.response
    assert [(each.text, each.signature) for each in plan.reasoning] == [("hm", "sig")]
    assert [(each.id, each.name, each.arguments_json) for each in plan.tool_calls] == [("c1", "look", "{}")]
    assert [(note.kind, note.field) for note in plan.notes] == [(pb.Note.KIND_LEFT_OUT, "seed")]
    assert (plan.usage.input_tokens, plan.usage.output_tokens, plan.finish_reason_raw) == (9, 4, "tool_use")


async def test_models_say_what_they_can_do() -> None:
    async with calling(MockProvider()) as caller:
        (model,) = (await caller.models()).models
    assert (model.capabilities.tools, model.capabilities.images) == (pb.SUPPORT_YES, pb.SUPPORT_NO)
    assert (model.price.input_usd, model.price.output_usd) == (0, 0)
    assert not model.price.HasField("cached_input_usd")
