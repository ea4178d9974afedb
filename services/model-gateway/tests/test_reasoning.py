"""Reasoning on its way back: to where it was made, in its place, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi_gateway.adapters import anthropic_messages, openai_messages, responses_messages
from pagi_gateway.adapters.anthropic_dialect import AnthropicMessages
from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.adapters.http_provider import HttpProvider
from pagi_gateway.adapters.pydantic_ai_messages import messages_of
from pagi_gateway.convert import plan_request_from_proto, plan_to_proto
from pagi_gateway.domain.content import GiveBack, Part, PartKind, Reasoning
from pagi_gateway.domain.effects import fingerprint_of
from pagi_gateway.domain.errors import ProviderRejectedError
from pagi_gateway.domain.estimates import input_tokens_of
from pagi_gateway.domain.model import Effort, Message, Plan, PlanRequest, Role, ToolCall
from pagi_gateway.domain.reasoning import in_order
from pagi_gateway.domain.trip import tokens_of

CLAUDE = Endpoint("anthropic", "http://a.example/v1", "m", key_variable="ANTHROPIC_API_KEY", default_output_tokens=99)
OPENAI = Endpoint("openai", "http://o.example/v1", "m")
GOOGLE = Endpoint("google", "http://g.example/v1", "m", key_variable="GOOGLE_API_KEY")
DEEPSEEK = Endpoint("deepseek", "http://d.example", "m", key_variable="DEEPSEEK_API_KEY")
OPENROUTER = Endpoint("openrouter", "http://r.example", "m", key_variable="OPENROUTER_API_KEY")
HOUSE = Endpoint("openai", "http://10.0.0.7:8000/v1", "m", compatible=True)
BEDROCK = Endpoint("bedrock", "https://b.example", "m", key_variable="AWS_ACCESS_KEY_ID")
CALLS = (ToolCall("c1", "look", "{}"), ToolCall("c2", "hear", "{}"))
# How each provider's reasoning looks on its way back.
SIGNED = Reasoning("Hm.", "sig", text_before=0)
SEALED = Reasoning("", "gAAA", "rs_1")
OF_A_CALL = Reasoning("", "CiQB", "c1")
DETAILS = Reasoning("", '[{"type": "reasoning.text", "text": "Hm."}]')
PLAIN = Reasoning("Hm.")


def asked(*reasoning: Reasoning, origin: str, model: str = "m", **more: Any) -> PlanRequest:
    """The second question of a tool loop whose first answer was made there."""
    own = tuple(replace(each, origin=origin) for each in reasoning)
    messages = (
        Message(Role.USER, "Look."),
        Message(Role.ASSISTANT, "I look.", CALLS, reasoning=own),
        Message(Role.TOOL, "a heron", tool_call_id="c1"),
        Message(Role.TOOL, "nothing", tool_call_id="c2"),
    )
    return PlanRequest(messages, model=model, **more)


def sent(request: PlanRequest, endpoint: Endpoint) -> Any:
    """What the model's turn is sent as."""
    if endpoint is CLAUDE:
        return json.loads(anthropic_messages.request_body(request, endpoint, stream=False))["messages"][1]["content"]
    if endpoint is BEDROCK:
        return messages_of(request, endpoint, takes_thoughts=True)[1].parts
    return json.loads(openai_messages.request_body(request, endpoint, stream=False))["messages"][1]


def responses_items(request: PlanRequest) -> list[dict[str, Any]]:
    body = responses_messages.request_body(request, OPENAI, reasons=True, stream=False)
    items: list[dict[str, Any]] = json.loads(body)["input"]
    return items


EACH = [(CLAUDE, SIGNED), (GOOGLE, OF_A_CALL), (DEEPSEEK, PLAIN), (OPENROUTER, DETAILS), (BEDROCK, SIGNED)]


@pytest.mark.parametrize(("endpoint", "reasoning"), EACH, ids=lambda each: getattr(each, "provider", ""))
def test_what_another_made_goes_to_nobody(endpoint: Endpoint, reasoning: Reasoning) -> None:
    nothing = sent(asked(origin=""), endpoint)
    assert sent(asked(reasoning, origin=endpoint.origin("m")), endpoint) != nothing
    others = {other.origin("m") for other, _ in EACH if other is not endpoint} | {OPENAI.origin("m")}
    # Another model, another account, another server of the same provider.
    others |= {
        endpoint.origin("m-2"),
        replace(endpoint, key_variable="ANOTHER_KEY").origin("m"),
        replace(endpoint, base_url="http://else.example").origin("m"),
    }
    for origin in others:
        assert sent(asked(reasoning, origin=origin), endpoint) == nothing, origin


def test_what_another_made_goes_to_nobody_by_responses_either() -> None:
    own = responses_items(asked(SEALED, origin=OPENAI.origin("m")))
    assert own[1] == {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    for endpoint, _ in EACH:
        assert [item.get("type") for item in responses_items(asked(SEALED, origin=endpoint.origin("m")))] == [
            None,
            None,
            "function_call",
            "function_call",
            "function_call_output",
            "function_call_output",
        ]


def test_an_origin_tells_no_secret() -> None:
    endpoint = Endpoint("openai", "http://me:hidden@10.0.0.7:8000/v1", "m", api_key="sk-very-secret")
    assert endpoint.origin("gpt-5") == "openai (10.0.0.7:8000) gpt-5 OPENAI_API_KEY"


def test_who_does_not_say_where_it_was_made_answers_for_that() -> None:
    assert sent(asked(SIGNED, origin=""), CLAUDE)[0] == {"type": "thinking", "thinking": "Hm.", "signature": "sig"}


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-3-pro-preview", "skip_thought_signature_validator"),
        ("models/gemini-3-flash", "skip_thought_signature_validator"),
        ("gemini-4", "skip_thought_signature_validator"),
        ("gemini-2.5-flash", None),
        ("gemini-1.5-pro", None),
    ],
)
def test_a_newer_gemini_is_told_of_calls_that_it_did_not_make(model: str, signature: str | None) -> None:
    calls = sent(asked(SIGNED, origin=CLAUDE.origin("m"), model=model), GOOGLE)["tool_calls"]
    assert [call.get("extra_content") for call in calls] == [
        {"google": {"thought_signature": signature}} if signature else None,
        None,
    ]


def test_a_signature_stays_with_its_call() -> None:
    second = replace(OF_A_CALL, id="renamed since", calls_before=1)
    calls = sent(asked(second, origin=GOOGLE.origin("gemini-3"), model="gemini-3"), GOOGLE)["tool_calls"]
    assert [call.get("extra_content") for call in calls] == [None, {"google": {"thought_signature": "CiQB"}}]
    nowhere = [replace(OF_A_CALL, calls_before=place) for place in (-1, 2)]
    calls = sent(asked(*nowhere, origin=GOOGLE.origin("gemini-2.5"), model="gemini-2.5"), GOOGLE)["tool_calls"]
    assert not any("extra_content" in call for call in calls)


@pytest.mark.parametrize("reasoning", [(), (SIGNED,)])
def test_deepseek_gets_something_for_each_turn_with_calls(reasoning: tuple[Reasoning, ...]) -> None:
    assert sent(asked(*reasoning, origin=CLAUDE.origin("m")), DEEPSEEK)["reasoning_content"] == " "
    said = Message(Role.ASSISTANT, "y", reasoning=(PLAIN,))
    assert "reasoning_content" not in sent(PlanRequest((Message(Role.USER, "x"), said), model="m"), DEEPSEEK), (
        "no calls"
    )
    loop = asked(*reasoning, origin=CLAUDE.origin("m"))
    poor = (*loop.messages, Message(Role.ASSISTANT, "Hm."), Message(Role.USER, "Try again."), said)
    body = json.loads(openai_messages.request_body(replace(loop, messages=poor), DEEPSEEK, stream=False))
    given = [each.get("reasoning_content") for each in body["messages"] if each["role"] == "assistant"]
    assert given == [" ", " ", None], "the answer that ends the loop belongs to it"


@pytest.mark.parametrize(("model", "wants"), [("moonshotai/Kimi-K2", True), ("deepseek-v3.2", True), ("qwen3", False)])
async def test_other_servers_have_the_thoughts_of_some_models_back(
    model: str, wants: bool, raw_server: Any, provider_at: Callable[..., Awaitable[HttpProvider]]
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"content": None, "reasoning_content": "Hm.", "tool_calls": [call]}
    server = await raw_server(lambda exchange: exchange.reply(json.dumps({"choices": [{"message": message}]})))
    provider = await provider_at("openai", server.base_url, compatible=True)
    plan = await provider.plan(PlanRequest((Message(Role.USER, "x"),), model=model), timeout_s=5)
    assert [(each.text, each.give_back) for each in plan.reasoning] == [
        ("Hm.", GiveBack.WHOLE if wants else GiveBack.NOTHING)
    ]
    again = asked(PLAIN, origin=HOUSE.origin(model), model=model)
    assert sent(again, HOUSE).get("reasoning_content") == ("Hm." if wants else None)


@pytest.mark.parametrize("details", ["sealed", '{"type": 1}', '["x"]', "[", ""])
def test_what_are_no_details_is_sent_as_none(details: str) -> None:
    broken = Reasoning("", details)
    assert "reasoning_details" not in sent(asked(broken, origin=OPENROUTER.origin("m")), OPENROUTER)


def test_bedrock_gets_what_is_signed_and_never_thoughts_as_words() -> None:
    redacted = Reasoning("", "blob", "redacted_content", redacted=True, text_before=2)
    parts = sent(asked(PLAIN, SIGNED, redacted, origin=BEDROCK.origin("m")), BEDROCK)
    assert [type(part).__name__ for part in parts] == [
        "ThinkingPart",
        "TextPart",
        "ThinkingPart",
        "TextPart",
        "ToolCallPart",
        "ToolCallPart",
    ]
    assert [part.signature for part in parts if type(part).__name__ == "ThinkingPart"] == ["sig", "blob"]
    parts = messages_of(asked(SIGNED, origin=""), BEDROCK, takes_thoughts=False)[1].parts
    assert [type(part).__name__ for part in parts] == ["TextPart", "ToolCallPart", "ToolCallPart"]


def test_claude_thinks_no_further_where_another_has_called() -> None:
    """By its reference: a turn that calls tools begins with thinking, or there is none while they are answered."""

    def thinking(request: PlanRequest) -> Any:
        body = anthropic_messages.request_body(replace(request, effort=Effort.LOW), CLAUDE, stream=False)
        return json.loads(body).get("thinking", {}).get("type")

    model = "claude-sonnet-4-5"
    assert thinking(asked(SIGNED, origin=CLAUDE.origin(model), model=model)) == "enabled"
    assert thinking(asked(SIGNED, origin=OPENAI.origin("gpt-5"), model=model)) is None
    assert thinking(asked(origin="", model="claude-opus-4-7")) == "adaptive"
    over = replace(asked(origin="", model=model), messages=(*asked(origin="").messages, Message(Role.ASSISTANT, "So.")))
    assert thinking(replace(over, messages=(*over.messages, Message(Role.USER, "And?")))) == "enabled"


@pytest.mark.parametrize(
    ("model", "binds"),
    [
        ("claude-fable-5-1", True),
        ("claude-opus-5-5", True),
        ("claude-haiku-5-5-20261001", True),
        ("claude-opus-6", True),
        ("claude-opus-5", False),
        ("claude-opus-5-20260901", False),
        ("claude-sonnet-4-5-20250929", False),
        ("claude-3-7-sonnet-20250219", False),
    ],
)
def test_claudes_that_bind_their_thoughts_drop_what_does_not_fit_any_more(model: str, binds: bool) -> None:
    request = asked(SIGNED, origin=CLAUDE.origin(model), model=model)
    body = json.loads(anthropic_messages.request_body(request, CLAUDE, stream=False))
    assert bool(body.get("thinking", {}).get("block_binding")) is binds
    assert bool(AnthropicMessages(CLAUDE).headers(request)) is binds
    assert not AnthropicMessages(CLAUDE).headers(asked(origin="", model=model))


@pytest.mark.parametrize(
    ("reasoning", "order"),
    [
        ((), ["I look.", "c1", "c2"]),
        ((Reasoning("a"),), ["(a)", "I look.", "c1", "c2"]),
        ((Reasoning("a", text_before=2), Reasoning("b", text_before=2)), ["I ", "(a)", "(b)", "look.", "c1", "c2"]),
        ((Reasoning("a", text_before=7, calls_before=1),), ["I look.", "c1", "(a)", "c2"]),
        # A caller may say anything, and another text may stand in the place of the first.
        ((Reasoning("a", text_before=99, calls_before=99),), ["I look.", "c1", "c2", "(a)"]),
        ((Reasoning("a", text_before=-3, calls_before=-1),), ["(a)", "I look.", "c1", "c2"]),
        (
            (Reasoning("a", text_before=7, calls_before=2), Reasoning("b", text_before=1, calls_before=1)),
            ["I look.", "c1", "c2", "(a)", "(b)"],
        ),
    ],
)
def test_each_thought_stands_where_it_stood(reasoning: tuple[Reasoning, ...], order: list[str]) -> None:
    message = Message(Role.ASSISTANT, "I ", CALLS, parts=(Part(PartKind.TEXT, "look."),), reasoning=reasoning)
    said = [
        each if isinstance(each, str) else each.id if isinstance(each, ToolCall) else f"({each.text})"
        for each in in_order(message, list(reasoning))
    ]
    assert said == order


def test_it_counts_and_names_an_effect() -> None:
    bare, full = asked(origin=""), asked(replace(SIGNED, signature="s" * 900), origin="x")
    assert fingerprint_of(bare) != fingerprint_of(full)
    assert fingerprint_of(full) != fingerprint_of(asked(replace(SIGNED, signature="t" * 900), origin="x"))
    assert fingerprint_of(full) != fingerprint_of(asked(replace(SIGNED, signature="s" * 900), origin="y"))
    assert input_tokens_of(full) - input_tokens_of(bare) == pytest.approx(300, abs=2)
    assert tokens_of(full) - tokens_of(bare) == pytest.approx(226, abs=2)


def test_the_contract_carries_all_of_it() -> None:
    whole = Reasoning("t", "s", "i", True, "o", GiveBack.WITHOUT_TEXT, 3, 1)
    told = plan_to_proto(Plan("abc", CALLS, reasoning=(whole, Reasoning("shown"))))
    assert [each.give_back for each in told.reasoning] == [pb.GIVE_BACK_WITHOUT_TEXT, pb.GIVE_BACK_UNSPECIFIED]
    message = pb.Message(role=pb.ROLE_ASSISTANT, text="abc", reasoning=told.reasoning[:1])
    [read] = plan_request_from_proto(pb.GetPlanRequest(messages=[message])).messages
    assert read.reasoning == (replace(whole, give_back=GiveBack.NOTHING),)


async def test_what_is_refused_without_it_is_taken_with_it(
    raw_server: Any, provider_at: Callable[..., Awaitable[HttpProvider]]
) -> None:
    """As Anthropic refuses a turn that called tools and comes without its thinking."""

    async def answer(exchange: Any) -> None:
        first = exchange.json["messages"][1]["content"][0]
        if first == {"type": "thinking", "thinking": "Hm.", "signature": "sig"}:
            content = [{"type": "text", "text": "A heron."}]
            await exchange.reply(json.dumps({"content": content, "stop_reason": "end_turn"}))
            return
        told = {"type": "error", "error": {"type": "invalid_request_error", "message": "Expected `thinking`"}}
        await exchange.reply(json.dumps(told), status="400 Bad Request")

    server = await raw_server(answer)
    provider = await provider_at("anthropic", server.base_url)
    endpoint = replace(CLAUDE, base_url=server.base_url)
    model = "claude-sonnet-4-5"
    with pytest.raises(ProviderRejectedError, match="Expected"):
        await provider.plan(asked(origin="", model=model), timeout_s=5)
    plan = await provider.plan(asked(SIGNED, origin=endpoint.origin(model), model=model), timeout_s=5)
    assert plan.text == "A heron."
