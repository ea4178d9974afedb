"""Bedrock by Pydantic AI and boto3, against aimock as its Converse API; boto3 and its signatures are real."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aimock_pytest import AIMockServer
from pagi_chassis.errors import PagiError
from pagi_gateway.adapters.bedrock_provider import BedrockProvider
from pagi_gateway.adapters.http_stream import Patience
from pagi_gateway.domain.errors import (
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
)
from pagi_gateway.domain.model import FinishReason, Message, Plan, PlanRequest, Role, ToolCall, ToolCallDelta
from pagi_gateway.testing import asking

MODEL = "us.amazon.nova-lite-v1:0"
both = pytest.mark.parametrize("how", ["whole", "stream"])


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sk-very-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
async def provider(credentials: None, aimock_fresh: AIMockServer) -> AsyncIterator[BedrockProvider]:
    made = BedrockProvider("eu-north-1", MODEL, base_url=aimock_fresh.base_url, patience=Patience())
    await made.start()
    yield made
    await made.stop()


async def answered(provider: BedrockProvider, request: PlanRequest, how: str) -> tuple[list[object], Plan]:
    if how == "whole":
        return [], await provider.plan(request, timeout_s=20)
    *deltas, plan = [event async for event in provider.stream(request, timeout_s=20)]
    assert isinstance(plan, Plan)
    return list(deltas), plan


async def test_text(aimock_fresh: AIMockServer, provider: BedrockProvider) -> None:
    aimock_fresh.on_message("heron", {"content": "The heron waits. " * 5})
    _, plan = await answered(provider, asking("where is the heron?", system="Be brief.", model=MODEL), "whole")
    assert plan.text == "The heron waits. " * 5
    assert (plan.provider, plan.finish_reason) == ("bedrock", FinishReason.STOP)


async def test_what_boto3_cannot_read_is_no_answer(aimock_fresh: AIMockServer, provider: BedrockProvider) -> None:
    """The mock of 1.43 begins a text with an event that boto3 refuses, which Bedrock does not send."""
    aimock_fresh.on_message("heron", {"content": "The heron waits."})
    with pytest.raises(ProviderAnswerError, match="no answer"):
        await answered(provider, asking("heron?", model=MODEL), "stream")


@both
async def test_tools(aimock_fresh: AIMockServer, provider: BedrockProvider, how: str) -> None:
    calls = [{"name": "math", "arguments": {"e": "2+2"}}, {"name": "web_search", "arguments": {"q": "h\u00e9ron"}}]
    aimock_fresh.on_message("both", {"toolCalls": calls})
    deltas, plan = await answered(provider, asking("do both", tools=["math", "web_search"], model=MODEL), how)
    assert [(call.name, json.loads(call.arguments_json)) for call in plan.tool_calls] == [
        (call["name"], call["arguments"]) for call in calls
    ]
    assert plan.finish_reason is FinishReason.TOOL_CALLS
    if how == "stream":
        second = [delta for delta in deltas if isinstance(delta, ToolCallDelta) and delta.index == 1]
        assert json.loads("".join(delta.arguments_json for delta in second)) == {"q": "h\u00e9ron"}


async def test_results_of_tools(aimock_fresh: AIMockServer, provider: BedrockProvider) -> None:
    aimock_fresh.add_fixture({"toolCallId": "call_7"}, {"content": "It is 4."})
    then = [
        Message(Role.ASSISTANT, tool_calls=(ToolCall("call_7", "math", '{"e": "2+2"}'),)),
        Message(Role.TOOL, "4", tool_call_id="call_7"),
    ]
    _, plan = await answered(provider, asking("2+2", tools=["math"], then=then, model=MODEL), "whole")
    assert plan.text == "It is 4."


@both
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ProviderRejectedError),
        (403, ProviderAccessError),
        (429, ProviderBusyError),
        (500, ProviderDownError),
        (503, ProviderDownError),
    ],
)
async def test_injected_errors_are_typed(
    aimock_fresh: AIMockServer, provider: BedrockProvider, how: str, status: int, error: type[PagiError]
) -> None:
    aimock_fresh.on_message("x", {"content": "fine"})
    aimock_fresh.next_error(status, {"message": "herons everywhere", "type": "test"})
    with pytest.raises(error) as caught:
        await answered(provider, asking("x", model=MODEL), how)
    assert "sk-very-secret" not in caught.value.message
    # It was asked once: nothing below the gateway asks again.
    assert (await answered(provider, asking("x", model=MODEL), "whole"))[1].text == "fine"


async def test_a_refused_connection(credentials: None, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    provider = BedrockProvider("eu-north-1", MODEL, base_url=url, patience=Patience())
    await provider.start()
    with pytest.raises(ProviderDownError):
        await provider.plan(asking("x", model=MODEL), timeout_s=10)
    with pytest.raises(ProviderDownError, match="cannot be reached"):
        await provider.check()
    await provider.stop()
