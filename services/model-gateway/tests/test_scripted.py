"""The scripted provider: its file, its place in the script, its faults."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pagi_chassis.errors import InternalError, PagiError
from pagi_gateway.adapters.scripted_file import FAULTS, read_script
from pagi_gateway.adapters.scripted_provider import ScriptedProvider
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ScriptError,
)
from pagi_gateway.domain.model import FinishReason, Message, Plan, PlanRequest, Role, TextDelta, ToolCall, Usage
from pagi_gateway.testing import asking


@pytest.fixture
def playing(tmp_path: Path) -> Any:
    def make(*lines: dict[str, Any]) -> ScriptedProvider:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(lines))
        return ScriptedProvider(read_script(path))

    return make


def after(steps: int, text: str = "go") -> PlanRequest:
    then = [
        message
        for n in range(steps)
        for message in (
            Message(Role.ASSISTANT, tool_calls=(ToolCall(f"call_{n + 1}", "math", "{}"),)),
            Message(Role.TOOL, "4", tool_call_id=f"call_{n + 1}"),
        )
    ]
    return asking(text, then=then, model="scripted", tools=["math"])


async def plan(provider: ScriptedProvider, request: PlanRequest, timeout_s: float = 5) -> Plan:
    return await provider.plan(request, timeout_s=timeout_s)


async def test_the_place_in_the_script_follows_from_the_conversation(playing: Any) -> None:
    provider = playing({"tool_calls": [{"name": "math", "arguments": {"expression": "2+2"}}]}, {"text": "it is 4"})
    for _ in range(2):  # a restart and a second conversation play the same
        first = await plan(provider, after(0))
        assert first.tool_calls == (ToolCall("call_1", "math", '{"expression": "2+2"}'),)
        assert first.finish_reason is FinishReason.TOOL_CALLS
        assert (await plan(provider, after(1))).text == "it is 4"
    with pytest.raises(ScriptError, match="number 3"):
        await plan(provider, after(2))


async def test_each_answer_that_was_given_is_noted(playing: Any, tmp_path: Path) -> None:
    fault = {"kind": "unavailable", "retry_after_s": 0, "times": 1}
    provider = playing({"text": "one"}, {"text": "two", "fault": fault})
    noting = ScriptedProvider(provider._script, tmp_path / "played")
    await plan(noting, after(0))
    with pytest.raises(ProviderDownError):
        await plan(noting, after(1))
    assert [each async for each in noting.stream(after(1), timeout_s=5)]
    script = tmp_path / "script.json"
    assert (tmp_path / "played").read_text().splitlines() == [f"{script}, line 1"] * 2, "the file has one line"


async def test_conversations_at_the_same_time_do_not_take_each_others_lines(playing: Any) -> None:
    provider = playing({"text": "first", "delay_ms": 5}, {"text": "second"})
    plans = await asyncio.gather(*(plan(provider, after(n % 2, f"run {n}")) for n in range(20)))
    assert [each.text for each in plans] == ["first", "second"] * 10


async def test_when_chooses_the_lines_by_the_last_user_message(playing: Any) -> None:
    provider = playing(
        {"text": "else"}, {"when": "ada|bob", "text": "one"}, {"when": "ADA", "text": "two"}, {"text": "else 2"}
    )
    assert (await plan(provider, after(0, "I am Ada"))).text == "one"
    assert (await plan(provider, after(1, "I am Ada"))).text == "two"
    assert (await plan(provider, after(0, "I am Eve"))).text == "else"
    assert (await plan(provider, after(1, "I am Eve"))).text == "else 2"
    with pytest.raises(ScriptError):
        await plan(provider, after(1, "I am Bob"))


async def test_a_line_may_hold_everything(playing: Any) -> None:
    provider = playing(
        {
            "text": "half",
            "tool_calls": [{"name": "a", "arguments": '{"broken"', "id": "x"}, {"name": "b"}],
            "usage": {"input_tokens": 3, "output_tokens": 4, "cost_usd": 0.5},
            "finish_reason": "length",
        }
    )
    got = await plan(provider, after(0))
    assert got.tool_calls == (ToolCall("x", "a", '{"broken"'), ToolCall("call_1", "b", "{}"))
    assert (got.usage, got.finish_reason) == (Usage(3, 4, 0.5, reported=True), FinishReason.LENGTH)


ERRORS: dict[str, type[PagiError]] = {
    "unavailable": ProviderDownError,
    "rate_limited": ProviderBusyError,
    "timeout": ProviderTimeoutError,
    "malformed": ProviderAnswerError,
    "rejected": ProviderRejectedError,
    "unauthorized": ProviderAccessError,
    "not_found": ModelNotFoundError,
    "internal": InternalError,
    "hang": ProviderTimeoutError,
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_every_fault_is_an_error_with_the_line(playing: Any, kind: str) -> None:
    provider = playing({"fault": {"kind": kind, "retry_after_s": 7}})
    with pytest.raises(ERRORS[kind]) as caught:
        await plan(provider, after(0), timeout_s=0.01)
    assert kind == "hang" or "line 1" in caught.value.message
    if kind in {"unavailable", "rate_limited"}:
        assert caught.value.retry_after_s == 7  # type: ignore[attr-defined]


async def test_a_fault_may_come_in_the_middle_of_a_stream(playing: Any) -> None:
    provider = playing({"text": "one two three", "fault": {"kind": "unavailable", "after_words": 2}})
    got: list[Any] = []

    async def listen() -> None:
        async for event in provider.stream(after(0), timeout_s=5):
            got.append(event)

    with pytest.raises(ProviderDownError):
        await listen()
    assert got == [TextDelta("one "), TextDelta("two ")]


async def test_a_fault_may_pass(playing: Any) -> None:
    provider = playing({"text": "at last", "fault": {"kind": "unavailable", "times": 2}})
    for _ in range(2):
        with pytest.raises(ProviderDownError):
            await plan(provider, after(0))
    assert (await plan(provider, after(0))).text == "at last"
    with pytest.raises(ProviderDownError):  # another conversation meets its own
        await plan(provider, after(0, "another"))


@pytest.mark.parametrize("line", [{"delay_ms": 60_000}, {"text": "a b c", "word_delay_ms": 60_000}])
async def test_a_slow_line_runs_out_of_time(playing: Any, line: dict[str, Any]) -> None:
    provider = playing(line)
    with pytest.raises(ProviderTimeoutError):
        await plan(provider, after(0), timeout_s=0.01)
    with pytest.raises(ProviderTimeoutError):
        [event async for event in provider.stream(after(0), timeout_s=0.01)]


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ('[\n {"text": "a"},\n {"text" "b"}\n]', 3, "not JSON"),
        ('{"text": "a"}', 1, "JSON list"),
        ("[]", 1, "no answers"),
        ("", 1, "not JSON"),
        ('[{},\n\n"a"]', 3, "must be a JSON object"),
        ('[{},\n{"txt": "a"}]', 2, "no member 'txt'"),
        ('[{"text": 7}]', 1, "text of an answer must be text, it is 7"),
        ('[{"text": true}]', 1, "must be text"),
        ('[{"delay_ms": -1}]', 1, "0 or more"),
        ('[{"delay_ms": NaN}]', 1, "0 or more"),
        ('[{"delay_ms": true}]', 1, "must be a number"),
        ('[{"when": "("}]', 1, "regular expression"),
        ('[{"finish_reason": "tired"}]', 1, "unknown finish_reason"),
        ('[{"fault": {"kind": "flood"}}]', 1, "unknown kind of fault 'flood'"),
        ('[{"fault": {"kind": "hang", "x": 1}}]', 1, "no member 'x'"),
        ('[{"fault": "hang"}]', 1, "must be an object"),
        ('[{"tool_calls": [{}]}]', 1, "needs a name"),
        ('[{"tool_calls": [{"name": "a", "arguments": 5}]}]', 1, "an object or text"),
        ('[{"usage": {"tokens": 5}}]', 1, "no member 'tokens'"),
    ],
)
def test_a_wrong_script_is_refused_with_its_line(tmp_path: Path, text: str, line: int, fault: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(text)
    with pytest.raises(ScriptError) as caught:
        read_script(path)
    assert f"script.json, line {line}: " in caught.value.message
    assert fault in caught.value.message


def test_a_script_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="cannot be read"):
        read_script(tmp_path)
