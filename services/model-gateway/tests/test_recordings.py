"""Traffic in the form of each provider, played back: what is sent, and what is made of the answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pagi_gateway.adapters.http_provider import HttpProvider
from pagi_gateway.domain.content import GiveBack
from pagi_gateway.domain.model import (
    Effort,
    Message,
    Plan,
    PlanRequest,
    ReasoningDelta,
    Role,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
)

# Bedrock's are played by `test_bedrock_faults.py`, which speaks its binary stream.
FILES = sorted(set(Path(__file__).parent.glob("recordings/*.json")) - set(Path(__file__).parent.glob("*/bedrock_*")))


def request_of(ask: dict[str, Any], model: str) -> PlanRequest:
    values = dict(ask)
    messages = [Message(Role(each.pop("role")), **each) for each in values.pop("messages")]
    tools = [ToolSpec(name, f"does {name}", '{"type": "object"}') for name in values.pop("tools", ())]
    if "effort" in values:
        values["effort"] = Effort(values["effort"])
    if "stop" in values:
        values["stop"] = tuple(values["stop"])
    return PlanRequest(tuple(messages), tuple(tools), values.pop("model", model), **values)


def told(plan: Plan, wanted: dict[str, Any]) -> dict[str, Any]:
    """The members of a plan that a recording speaks of."""
    values = {
        "text": plan.text,
        "tool_calls": [[call.id, call.name, call.arguments_json] for call in plan.tool_calls],
        "reasoning": [each.text for each in plan.reasoning],
        "signatures": [each.signature for each in plan.reasoning],
        "finish_reason": plan.finish_reason.value,
        "model": plan.model,
        "usage": {name: getattr(plan.usage, name) for name in wanted["usage"]},
    }
    left = {name: value for name, value in values.items() if name not in wanted}
    assert not left.get("text")
    assert not left.get("tool_calls")
    assert not left.get("reasoning")
    return {name: values[name] for name in wanted}


def joined(deltas: list[Any]) -> list[list[Any]]:
    """Deltas as a recording writes them: whatever was gathered together, what belongs together is one."""
    written: list[list[Any]] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            new = ["call", delta.index, delta.id, delta.name, delta.arguments_json]
        else:
            assert isinstance(delta, TextDelta | ReasoningDelta)
            new = ["text" if isinstance(delta, TextDelta) else "reasoning", delta.text]
        if written and written[-1][0] == new[0] and (new[0] != "call" or written[-1][1] == new[1]):
            written[-1][-1] += new[-1]
        else:
            written.append(new)
    return written


def given_back(plan: Plan) -> Message:
    """An answer as a caller sends it again: without the reasoning, and without the words of it, that nobody wants."""
    reasoning = [
        replace(each, text=each.text if each.give_back is GiveBack.WHOLE else "", give_back=GiveBack.NOTHING)
        for each in plan.reasoning
        if each.give_back is not GiveBack.NOTHING
    ]
    return Message(Role.ASSISTANT, plan.text, plan.tool_calls, reasoning=tuple(reasoning))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_a_recording(path: Path, raw_server: Any, provider_at: Callable[..., Awaitable[HttpProvider]]) -> None:
    recording = json.loads(path.read_text())
    events = recording.get("events")

    async def play(exchange: Any) -> None:
        if events is None:
            await exchange.reply(json.dumps(recording["answer"]))
            return
        await exchange.begin_stream()
        for event in events:
            await exchange.event(event)
        await exchange.end_stream()

    server = await raw_server(play)
    who = {"provider": recording["provider"], "default_model": "m-1"} if "provider" in recording else {}
    reports_cost = recording.get("provider") == "openrouter"
    provider = await provider_at(recording["dialect"], server.base_url, reports_cost=reports_cost, **who)
    request = request_of(recording["ask"], provider.default_model)
    if events is None:
        plan = await provider.plan(request, timeout_s=5)
    else:
        *deltas, plan = [event async for event in provider.stream(request, timeout_s=5)]
        if "deltas" in recording:
            assert joined(deltas) == recording["deltas"]
    assert told(plan, recording["plan"]) == recording["plan"]
    body = server.exchanges[0].json
    assert {name: body.get(name) for name in recording["sent"]} == recording["sent"]
    headers = server.exchanges[0].headers
    if recording["dialect"] == "anthropic":
        assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-very-secret", "2023-06-01")
        assert "authorization" not in headers
    else:
        assert headers["authorization"] == "Bearer sk-very-secret"
    if "back" not in recording:
        return
    results = [Message(Role.TOOL, "4", tool_call_id=call.id) for call in plan.tool_calls]
    again = replace(request, messages=(*request.messages, given_back(plan), *results))
    await provider.plan(again, timeout_s=5) if events is None else [
        event async for event in provider.stream(again, timeout_s=5)
    ]
    body = server.exchanges[1].json
    turns = [turn for turn in body.get("messages") or body["input"] if turn.get("role") != "system"]
    assert turns[1 : 1 + len(recording["back"])] == recording["back"]
    assert {name: body.get(name) for name in recording.get("sent_again", ())} == recording.get("sent_again", {})
    headers = server.exchanges[1].headers
    assert {name: headers.get(name) for name in recording.get("headers_again", ())} == recording.get(
        "headers_again", {}
    )
