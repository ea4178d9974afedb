"""What a model cannot do is known before it is asked; answers of a schema are checked, however they are made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pagi_gateway.adapters.model_capabilities import capabilities_of
from pagi_gateway.domain.capabilities import Capabilities, Support
from pagi_gateway.domain.content import Part, PartKind
from pagi_gateway.domain.errors import UnsupportedError, WrongShapeError
from pagi_gateway.domain.fitting import FittingProvider
from pagi_gateway.domain.model import (
    Effort,
    FinishReason,
    NoteKind,
    Plan,
    PlanRequest,
    ReasoningDelta,
    ResponseFormat,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolUse,
)
from pagi_gateway.testing import RecordingProvider, asking

NO = Support.NO
NOTHING = Capabilities(**{name: NO for name in Capabilities.__dataclass_fields__ if "tokens" not in name})
SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
IMAGE = Part(PartKind.IMAGE, data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
LINK = Part(PartKind.IMAGE, url="https://x.example/a.png")
FILE = Part(PartKind.FILE, data=b"%PDF-", media_type="application/pdf")


@dataclass
class Source(RecordingProvider):
    """A recording provider whose models can do what a test says."""

    can: Capabilities = field(default_factory=Capabilities)
    deltas: tuple[Any, ...] = ()

    def capabilities(self, model: str) -> Capabilities:
        return self.can

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> Any:
        if not self.deltas:
            async for event in super().stream(request, timeout_s=timeout_s):
                yield event
            return
        plan = await self.plan(request, timeout_s=timeout_s)
        for delta in self.deltas:
            yield delta
        yield plan


def base() -> PlanRequest:
    return asking("hello", model="model-a")


def with_parts(*parts: Part) -> PlanRequest:
    request = base()
    return replace(request, messages=(replace(request.messages[0], parts=parts),))


WANTS: dict[str, PlanRequest] = {
    "tools": asking("hello", tools=["math"], model="model-a"),
    "temperature": replace(base(), temperature=0.5),
    "top_p": replace(base(), top_p=0.5),
    "seed": replace(base(), seed=1),
    "stop": replace(base(), stop=("END",)),
    "reasoning_effort": replace(base(), effort=Effort.HIGH),
    "response_format": replace(base(), response_format=ResponseFormat(SCHEMA)),
    "messages[0].parts[0]": with_parts(IMAGE),
}


@pytest.mark.parametrize("name", WANTS)
async def test_what_a_model_cannot_do_is_refused_before_it_is_asked(name: str) -> None:
    source = Source(can=NOTHING)
    with pytest.raises(UnsupportedError) as caught:
        await FittingProvider(source).plan(WANTS[name], timeout_s=5)
    assert caught.value.message.startswith(f"{name}: ")
    assert "model-a of recording cannot" in caught.value.message
    with pytest.raises(UnsupportedError):
        [event async for event in FittingProvider(source).stream(WANTS[name], timeout_s=5)]
    assert source.requests == []


@pytest.mark.parametrize("name", WANTS)
async def test_or_left_out_with_a_note(name: str) -> None:
    source = Source(can=NOTHING)
    plan = await FittingProvider(source).plan(replace(WANTS[name], leave_out=True), timeout_s=5)
    assert [(note.kind, note.field) for note in plan.notes] == [(NoteKind.LEFT_OUT, name)]
    assert source.requests == [replace(base(), leave_out=True)]


@pytest.mark.parametrize("name", WANTS)
async def test_what_is_not_known_is_asked(name: str) -> None:
    source = Source([Plan('{"n": 1}')])
    await FittingProvider(source).plan(WANTS[name], timeout_s=5)
    assert source.requests == [WANTS[name]]


async def test_only_the_part_that_cannot_be_read_is_left_out() -> None:
    source = Source(can=Capabilities(image_urls=NO, files=NO))
    request = replace(with_parts(FILE, IMAGE, LINK), leave_out=True)
    plan = await FittingProvider(source).plan(request, timeout_s=5)
    assert source.requests[0].messages[0].parts == (IMAGE,)
    assert [note.field for note in plan.notes] == ["messages[0].parts[0]", "messages[0].parts[2]"]


async def test_the_models_own_limit_holds() -> None:
    source = Source(can=Capabilities(max_output_tokens=100))
    request = replace(base(), max_output_tokens=200)
    with pytest.raises(UnsupportedError, match="more than 100 tokens"):
        await FittingProvider(source).plan(request, timeout_s=5)
    await FittingProvider(source).plan(replace(request, leave_out=True), timeout_s=5)
    assert source.requests[0].max_output_tokens == 100


FORM = replace(base(), response_format=ResponseFormat(SCHEMA))
CALLED = Plan(tool_calls=(ToolCall("c", "answer", '{"n": 4}'),), finish_reason=FinishReason.TOOL_CALLS)
TOOLS = Capabilities(tools=Support.YES, response_format=Support.EMULATED)
WORDS = Capabilities(tools=NO, response_format=Support.EMULATED)


async def test_an_answer_of_a_schema_by_a_tool() -> None:
    source = Source([CALLED], can=TOOLS)
    plan = await FittingProvider(source).plan(FORM, timeout_s=5)
    assert (plan.text, plan.tool_calls, plan.finish_reason) == ('{"n": 4}', (), FinishReason.STOP)
    assert [note.kind for note in plan.notes] == [NoteKind.EMULATED]
    sent = source.requests[0]
    assert [tool.name for tool in sent.tools] == ["answer"]
    assert json.loads(sent.tools[0].parameters_schema_json) == json.loads(SCHEMA)
    assert (sent.tool_use, sent.tool_name, sent.response_format) == (ToolUse.REQUIRED, "answer", None)


async def test_other_tools_may_be_called_first() -> None:
    calls = (ToolCall("c", "answer_", '{"n": 4}'), ToolCall("d", "answer", "{}"))
    source = Source([replace(CALLED, tool_calls=calls)], can=TOOLS)
    request = replace(asking("hello", tools=["answer"], model="model-a"), response_format=FORM.response_format)
    plan = await FittingProvider(source).plan(request, timeout_s=5)
    assert [tool.name for tool in source.requests[0].tools] == ["answer", "answer_"]
    assert source.requests[0].tool_name == ""
    assert (plan.tool_calls, plan.finish_reason) == (calls[1:], FinishReason.TOOL_CALLS)


async def test_the_tools_arguments_stream_as_text() -> None:
    deltas = (
        ReasoningDelta("hm"),
        TextDelta("Sure!"),
        ToolCallDelta(0, "c", "answer", ""),
        ToolCallDelta(0, arguments_json='{"n": '),
        ToolCallDelta(0, arguments_json="4}"),
        ToolCallDelta(1, "d", "other", "{}"),
    )
    source = Source([CALLED], can=TOOLS, deltas=deltas)
    *got, plan = [event async for event in FittingProvider(source).stream(FORM, timeout_s=5)]
    assert got == [ReasoningDelta("hm"), TextDelta('{"n": '), TextDelta("4}"), deltas[-1]]
    assert isinstance(plan, Plan)
    assert plan.text == '{"n": 4}'


@pytest.mark.parametrize(
    "text", ['{"n": 4}', '```json\n{"n": 4}\n```', '\n```\n{"n": 4}```\n', '``` json \r\n\n{"n": 4}\n\n  ```']
)
async def test_an_answer_of_a_schema_by_a_prompt(text: str) -> None:
    source = Source([Plan(text)], can=WORDS)
    plan = await FittingProvider(source).plan(FORM, timeout_s=5)
    assert json.loads(plan.text) == {"n": 4}
    assert '"required": ["n"]' in source.requests[0].messages[0].text


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text", ["```json\n" + "\n" * 1_000_000 + "x", " " * 1_000_000 + "```", "```", "`````", "```x"]
)
async def test_a_model_that_lost_its_way_in_white_space_holds_nobody_up(text: str) -> None:
    with pytest.raises(WrongShapeError, match="not JSON"):
        await FittingProvider(Source([Plan(text)], can=WORDS)).plan(FORM, timeout_s=5)


@pytest.mark.parametrize("can", [Capabilities(), TOOLS, WORDS], ids=["native", "tool", "prompt"])
@pytest.mark.parametrize(
    ("text", "said"), [('{"n": "four"}', "at n: "), ("{}", "required"), ("Four.", "not JSON"), ('{"n": 4', "not JSON")]
)
async def test_an_answer_of_the_wrong_form_is_an_error(can: Capabilities, text: str, said: str) -> None:
    source = Source([Plan(text)], can=can)
    with pytest.raises(WrongShapeError, match=said):
        await FittingProvider(source).plan(FORM, timeout_s=5)
    with pytest.raises(WrongShapeError, match=said):
        [event async for event in FittingProvider(source).stream(FORM, timeout_s=5)]


async def test_an_answer_that_was_cut_says_so_and_a_refusal_is_handed_on() -> None:
    cut = Source([Plan('{"n": ', finish_reason=FinishReason.LENGTH)])
    with pytest.raises(WrongShapeError, match="cut off at its limit"):
        await FittingProvider(cut).plan(FORM, timeout_s=5)
    refused = Source([Plan("I will not.", finish_reason=FinishReason.CONTENT_FILTER)])
    assert (await FittingProvider(refused).plan(FORM, timeout_s=5)).text == "I will not."


@pytest.mark.parametrize(
    ("provider", "model", "capability", "support"),
    [
        ("openai", "gpt-4o-mini", "images", Support.YES),
        ("openai", "gpt-4o-mini", "temperature", Support.YES),
        ("openai", "gpt-5-mini", "temperature", NO),
        ("openai", "gpt-5-chat-latest", "reasoning", Support.UNKNOWN),
        ("openai", "o3-mini", "stop", NO),
        ("openai", "gpt-3.5-turbo", "images", NO),
        ("openai", "gpt-4", "response_format", Support.EMULATED),
        ("anthropic", "claude-sonnet-4-5", "temperature", Support.YES),
        ("anthropic", "claude-sonnet-4-20250514", "temperature", Support.YES),
        ("anthropic", "claude-3-5-haiku-latest", "temperature", Support.YES),
        ("anthropic", "claude-opus-4-7", "temperature", NO),
        ("anthropic", "claude-sonnet-4-5", "seed", NO),
        ("anthropic", "claude-opus-4-7", "response_format", Support.EMULATED),
        ("deepseek", "deepseek-chat", "images", NO),
        ("qwen", "qwen3-vl-plus", "images", Support.YES),
        ("bedrock", "us.amazon.nova-lite-v1:0", "response_format", Support.EMULATED),
        ("mock", "mock", "images", NO),
        ("", "anything", "images", Support.UNKNOWN),
    ],
)
def test_what_is_known_of_models(provider: str, model: str, capability: str, support: Support) -> None:
    assert getattr(capabilities_of(provider, model), capability) is support
