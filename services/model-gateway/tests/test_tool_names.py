"""Tools may be named as their servers like: a provider reads names that it takes, the planner its own ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pagi_gateway.adapters.mock_provider import MockProvider
from pagi_gateway.adapters.model_capabilities import capabilities_of
from pagi_gateway.adapters.scripted_provider import ScriptedProvider
from pagi_gateway.domain.capabilities import Capabilities, Support
from pagi_gateway.domain.fitting import FittingProvider, fit
from pagi_gateway.domain.model import (
    Message,
    Plan,
    PlanRequest,
    ResponseFormat,
    Role,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolUse,
)
from pagi_gateway.domain.tool_names import ToolNames, tool_names
from pagi_gateway.testing import asking

TAKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
NAMES = st.lists(st.one_of(st.text(min_size=1, max_size=90), st.text("ab_.-1é", min_size=1, max_size=4)), unique=True)


def asked(offered: list[str], called: list[str] | None = None, *, must: str = "") -> PlanRequest:
    """A conversation with those tools, in which those were called."""
    calls = tuple(ToolCall(f"c{index}", name, "{}") for index, name in enumerate(called or ()))
    results = [Message(Role.TOOL, "done", tool_call_id=call.id) for call in calls]
    then = [Message(Role.ASSISTANT, tool_calls=calls), *results] if calls else []
    request = asking("hello", tools=offered, then=then)
    return replace(request, tool_use=ToolUse.REQUIRED, tool_name=must) if must else request


def sent_as(offered: list[str], called: list[str] | None = None) -> dict[str, str]:
    names = tool_names(asked(offered, called))
    return names.sent if names else {name: name for name in (*offered, *(called or ()))}


@given(NAMES, NAMES)
@example(["a.b", "a_b", "a/b"], ["a b", "a_b_"])
@example(["x" * 65, "x" * 64, "x" * 55 + "." * 10], [])
@example(["погода", "почта", "-", "_", "."], ["tool"])
def test_any_names_go_out_as_names_that_are_taken_and_come_back(offered: list[str], called: list[str]) -> None:
    request = asked(offered, called)
    fitted = fit(request, Capabilities(), "any")
    there = [tool.name for tool in fitted.request.tools]
    calls = [call for message in fitted.request.messages for call in message.tool_calls]
    everything = {*there, *(call.name for call in calls)}
    assert all(TAKEN.fullmatch(name) for name in everything)
    assert len(everything) == len({*offered, *called})
    back = fitted.finished(Plan(tool_calls=tuple(ToolCall("c", name, "{}") for name in there) + tuple(calls)))
    assert [call.name for call in back.tool_calls] == [*offered, *called]
    assert [replace(tool, name="") for tool in fitted.request.tools] == [
        replace(tool, name="") for tool in request.tools
    ]


@given(NAMES, NAMES, st.randoms(use_true_random=False))
def test_the_same_tools_have_the_same_names_whatever_was_called(
    offered: list[str], called: list[str], chance: Any
) -> None:
    shuffled = chance.sample(offered, len(offered))
    first, later = sent_as(offered), sent_as(shuffled, called)
    assert {name: later[name] for name in offered} == first
    more = sent_as(offered, [*called, "one.more"])
    assert {name: more[name] for name in later} == later


@given(NAMES, st.data())
def test_a_name_in_pieces_comes_back_whole(offered: list[str], data: st.DataObject) -> None:
    sent = sent_as(offered)
    names = ToolNames(sent)
    deltas: list[Any] = []
    for index, name in enumerate(sent.values()):
        cut = data.draw(st.integers(1, len(name)))
        pieces = [ToolCallDelta(index, f"c{index}", name[:cut]), ToolCallDelta(index, "", name[cut:])]
        pieces += [ToolCallDelta(index, arguments_json="{}")] * data.draw(st.integers(0, 1))
        deltas += [names.delta(piece) for piece in pieces]
    deltas = [delta for delta in [*deltas, *names.rest()] if delta and delta.name]
    assert sorted((delta.index, delta.id, delta.name) for delta in deltas) == [
        (index, f"c{index}", name) for index, name in enumerate(sent)
    ]
    assert names.rest() == []


@pytest.mark.parametrize(
    ("offered", "sent"),
    [
        (["files.read", "math"], ["files_read", "math"]),
        (["3d.render"], ["tool_3d_render"]),
        (["2fa"], ["tool_2fa"]),
        (["_own", "a-b"], ["_own", "a-b"]),
        (["погода.now"], ["now"]),
        (["погода"], ["tool"]),
        (["a.b", "a_b"], ["a_b_2e7336dc", "a_b"]),
        (["a.b", "a/b"], ["a_b_2e7336dc", "a_b_c14cddc0"]),
        (["a_b_2e7336dc.", "a.b", "a_b"], ["a_b_2e7336dc_06171053", "a_b_2e7336dc", "a_b"]),
        (["x" * 65], ["x" * 55 + "_9537c5fd"]),
    ],
)
def test_names_stay_readable(offered: list[str], sent: list[str]) -> None:
    assert [sent_as(offered)[name] for name in offered] == sent


def test_a_digest_that_another_tool_has_for_its_name_is_not_used() -> None:
    taken = sent_as(["a.b", "a_b"])["a.b"]
    sent = sent_as(["a.b", "a_b", taken])
    assert sent[taken] == taken
    assert sent["a.b"] != taken
    assert len(set(sent.values())) == 3


def test_names_that_are_taken_cost_nothing() -> None:
    request = asked(["math", "web_search"], ["math"], must="math")
    assert fit(request, Capabilities(), "any").request is request


def test_a_call_of_a_tool_that_was_not_offered_stays_as_it_was_written() -> None:
    fitted = fit(asked(["files.read"]), Capabilities(), "any")
    written = [ToolCall("c1", "files.read", "{}"), ToolCall("c2", "nothing like it", "{}")]
    assert list(fitted.finished(Plan(tool_calls=tuple(written))).tool_calls) == written


def test_the_tool_that_carries_a_structured_answer_is_told_apart() -> None:
    """`answer` is the carrier's name, and `.answer` would be sent as that."""
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    request = replace(asked([".answer"]), response_format=ResponseFormat(schema))
    fitted = fit(request, capabilities_of("anthropic", "claude-sonnet-4-5"), "anthropic")
    other, carrier = [tool.name for tool in fitted.request.tools]
    assert carrier == "answer" != other
    assert fitted.finished(Plan(tool_calls=(ToolCall("c", carrier, '{"n": 1}'),))).text == '{"n": 1}'
    assert fitted.finished(Plan(tool_calls=(ToolCall("c", other, "{}"),))).tool_calls[0].name == ".answer"
    # The carrier's name begins the other's, so it waits for what comes next, and is text even at the end.
    assert fitted.delta(ToolCallDelta(0, "c", carrier)) is None
    assert fitted.delta(ToolCallDelta(0, arguments_json='{"n"')) == TextDelta('{"n"')
    assert fitted.rest() == []


@pytest.mark.parametrize("source", [MockProvider(), ScriptedProvider([])], ids=["mock", "scripted"])
def test_providers_of_the_house_take_any_name(source: MockProvider | ScriptedProvider) -> None:
    can = source.capabilities(source.default_model)
    assert can.any_tool_name is Support.YES
    request = asked(["files.read"], ["файл"])
    assert fit(request, can, source.name).request is request


@pytest.mark.parametrize(
    "provider", ["openai", "anthropic", "bedrock", "deepseek", "qwen", "google", "openrouter", "ollama"]
)
def test_no_other_provider_does(provider: str) -> None:
    assert capabilities_of(provider, "any").any_tool_name is not Support.YES


# What each API makes of a conversation, and how it calls a tool: whole, and streamed.
def chat_names(body: Any) -> list[str]:
    called = [call["function"]["name"] for said in body["messages"] for call in said.get("tool_calls", ())]
    return [*(tool["function"]["name"] for tool in body["tools"]), *called, body["tool_choice"]["function"]["name"]]


def claude_names(body: Any) -> list[str]:
    blocks = [block for said in body["messages"] for block in said["content"]]
    called = [block["name"] for block in blocks if block["type"] == "tool_use"]
    return [*(tool["name"] for tool in body["tools"]), *called, body["tool_choice"]["name"]]


def responses_names(body: Any) -> list[str]:
    called = [item["name"] for item in body["input"] if item.get("type") == "function_call"]
    return [*(tool["name"] for tool in body["tools"]), *called, body["tool_choice"]["name"]]


def chat_whole(name: str) -> Any:
    call = {"id": "n1", "type": "function", "function": {"name": name, "arguments": '{"at": 1}'}}
    return {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}


def chat_events(name: str) -> list[Any]:
    pieces = [
        {"index": 0, "id": "n1", "function": {"name": name, "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"at":'}},
        {"index": 0, "function": {"arguments": " 1}"}},
    ]
    deltas = [{"choices": [{"delta": {"tool_calls": [piece]}}]} for piece in pieces]
    return [*deltas, {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}, "[DONE]"]


def claude_whole(name: str) -> Any:
    return {"content": [{"type": "tool_use", "id": "n1", "name": name, "input": {"at": 1}}], "stop_reason": "tool_use"}


def claude_events(name: str) -> list[Any]:
    piece = {"type": "input_json_delta", "partial_json": '{"at": 1}'}
    return [
        {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 1}}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "n1", "name": name, "input": {}},
        },
        {"type": "content_block_delta", "index": 0, "delta": piece},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]


def responses_whole(name: str) -> Any:
    call = {"type": "function_call", "id": "f1", "call_id": "n1", "name": name, "arguments": '{"at": 1}'}
    return {"status": "completed", "output": [call]}


def responses_events(name: str) -> list[Any]:
    whole = responses_whole(name)
    begun = {**whole["output"][0], "arguments": ""}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"at": 1}'},
        {"type": "response.completed", "response": whole},
    ]


Road = tuple[Callable[[Any], list[str]], Callable[[str], Any], Callable[[str], list[Any]]]
ROADS: dict[str, Road] = {
    "openai": (chat_names, chat_whole, chat_events),
    "anthropic": (claude_names, claude_whole, claude_events),
    "responses": (responses_names, responses_whole, responses_events),
}


@pytest.mark.parametrize("dialect", ROADS)
async def test_a_provider_never_reads_a_name_that_it_refuses(dialect: str, provider_at: Any, raw_server: Any) -> None:
    names, whole, events = ROADS[dialect]

    async def answer(exchange: Any) -> None:
        read = names(exchange.json)
        if not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in read):
            await exchange.reply('{"error": {"message": "invalid tool name"}}', status="400 Bad Request")
        elif exchange.json.get("stream"):
            await exchange.begin_stream()
            for event in events(read[-1]):
                await exchange.event(event)
            await exchange.end_stream()
        else:
            await exchange.reply(json.dumps(whole(read[-1])))

    server = await raw_server(answer)
    provider = FittingProvider(await provider_at(dialect, server.base_url))
    request = replace(
        asked(["files.read", "files_read", "math"], ["files.read", "gone.away"], must="files.read"),
        model=provider.default_model,
    )
    plan = await provider.plan(request, timeout_s=5)
    called = ToolCall("n1", "files.read", plan.tool_calls[0].arguments_json)
    assert plan.tool_calls == (called,)
    got: list[Any] = [event async for event in provider.stream(request, timeout_s=5)]
    *deltas, last = got
    assert [(call.id, call.name) for call in last.tool_calls] == [("n1", "files.read")]
    assert [(delta.id, delta.name) for delta in deltas if delta.name] == [("n1", "files.read")]
    assert json.loads("".join(delta.arguments_json for delta in deltas)) == {"at": 1}
    first, second = (names(exchange.json) for exchange in server.exchanges)
    safe = first[0]
    assert first == second == [safe, "files_read", "math", safe, "gone_away", safe]


async def test_a_name_that_comes_in_pieces_and_without_arguments_is_streamed_whole(
    openai_at: Any, raw_server: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin_stream()
        for index, piece in enumerate(["files_", "read"]):
            call = {"index": 0, "id": None if index else "n1", "function": {"name": piece}}
            await exchange.event({"choices": [{"delta": {"tool_calls": [call]}}]})
        await exchange.event({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
        await exchange.event("[DONE]")
        await exchange.end_stream()

    server = await raw_server(answer)
    provider = FittingProvider(await openai_at(server.base_url))
    request = replace(asked(["files.read", "files_read_all"]), model=provider.default_model)
    got: list[Any] = [event async for event in provider.stream(request, timeout_s=5)]
    *deltas, last = got
    assert [(delta.id, delta.name) for delta in deltas] == [("n1", "files.read")]
    assert [call.name for call in last.tool_calls] == ["files.read"]
