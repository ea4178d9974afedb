"""Answers that no provider should give: none breaks the gateway, holds it up, or is counted as what cannot be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Protocol

import pytest
from pagi_gateway.adapters.anthropic_answer import MessagesAnswer
from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.adapters.http_errors import error_for, retry_after_s
from pagi_gateway.adapters.http_provider import Answer
from pagi_gateway.adapters.openai_stream import ChatAnswer
from pagi_gateway.adapters.responses_answer import ResponsesAnswer
from pagi_gateway.convert import event_to_proto, plan_to_proto
from pagi_gateway.domain.errors import ProviderAnswerError, ProviderDownError
from pagi_gateway.domain.model import Plan, Usage
from pagi_gateway.domain.received import plan_of

ENDPOINT = Endpoint("openrouter", "https://house/v1", "m", reports_cost=True)
PIECE = "x" * 80


class Made(Protocol):
    def __call__(self, endpoint: Endpoint, model: str, ids: Iterator[str]) -> Answer: ...


def answer_of(kind: Made) -> Answer:
    return kind(ENDPOINT, "m", (f"made_{number}" for number in count()))


def whole(kind: Made, body: object) -> Plan:
    answer = answer_of(kind)
    answer.take_whole(body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json")
    return answer.plan()


def chat(message: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"choices": [{"message": message}], **more}


def call(id_: str | None = "1", name: str = "math", arguments: object = "{}", **more: object) -> dict[str, Any]:
    return {"id": id_, "function": {"name": name, "arguments": arguments}, **more}


HALF = "\ud83d"
HALVES: list[tuple[Made, object]] = [
    (ChatAnswer, chat({"tool_calls": [call(HALF)]})),
    (ChatAnswer, chat({"tool_calls": [call(name=HALF)]})),
    (ChatAnswer, chat({"tool_calls": [call(arguments={"text": HALF, HALF: 1})]})),
    (ChatAnswer, chat({"tool_calls": [call(extra_content={"google": {"thought_signature": HALF}})]})),
    (ChatAnswer, chat({"content": HALF}, model=HALF)),
    (ChatAnswer, {"choices": [{"message": {"content": "a"}, "finish_reason": HALF}]}),
    (ChatAnswer, chat({"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": HALF}]})),
    (ChatAnswer, chat({"content": "a", "reasoning_details": [{"type": ["odd"], "text": HALF}]})),
    (MessagesAnswer, {"content": [{"type": "tool_use", "id": HALF, "name": HALF, "input": {"text": HALF}}]}),
    (MessagesAnswer, {"content": [{"type": "thinking", "thinking": HALF, "signature": HALF}], "stop_reason": HALF}),
    (ResponsesAnswer, {"output": [{"type": "function_call", "call_id": HALF, "name": HALF, "arguments": HALF}]}),
    (ResponsesAnswer, {"output": [{"type": "reasoning", "id": HALF, "summary": [{"text": HALF}]}], "status": HALF}),
]


@pytest.mark.parametrize(("kind", "body"), HALVES)
def test_half_a_character_anywhere_can_be_handed_on(kind: Made, body: object) -> None:
    plan_to_proto(whole(kind, body)).SerializeToString()


def test_half_a_character_in_a_streamed_call_can_be_handed_on() -> None:
    added = {"type": "response.output_item.added", "item": {"type": "function_call", "arguments": HALF, "name": HALF}}
    for kind, event in (
        (ChatAnswer, {"choices": [{"delta": {"tool_calls": [call(HALF, HALF, HALF)]}}]}),
        (ResponsesAnswer, added),
    ):
        for delta in answer_of(kind).take(json.dumps(event).encode()):
            event_to_proto(delta).SerializeToString()


@pytest.mark.parametrize(
    "told", ["1 Jan 99999999999999999999 00:00:00 GMT", "Mon, 1 Jan 2020 99999999999999999999:00:00 GMT", "nan", "-1e9"]
)
def test_a_wait_that_is_none_is_not_told(told: str) -> None:
    assert retry_after_s({"Retry-After": told, "retry-after-ms": told}) is None


def test_an_error_with_an_endless_code_is_an_error() -> None:
    with pytest.raises(ProviderDownError, match="out of order"):
        whole(ChatAnswer, {"error": {"message": "out of order", "code": "4" * 5000}})


def test_half_a_character_in_an_error_leaves_its_reason() -> None:
    with pytest.raises(ProviderDownError, match="out of order"):
        whole(ChatAnswer, {"error": {"message": f"{HALF} out of order"}})


@pytest.mark.parametrize("kind", [ChatAnswer, MessagesAnswer, ResponsesAnswer])
def test_bytes_that_are_no_text_are_no_answer(kind: Made) -> None:
    with pytest.raises(ProviderAnswerError, match="not an answer"):
        whole(kind, b'{"model": "a\xff", "choices": []}')
    with pytest.raises(ProviderAnswerError, match="not an answer"):
        answer_of(kind).take(b'{"type": "a\xe2\x82", "model": "a\xe2\x82"}')


def test_what_is_no_number_is_no_answer_in_text_that_is_read_the_slow_way_either() -> None:
    with pytest.raises(ProviderAnswerError):
        whole(ChatAnswer, b'{"choices": [{"message": {"content": "\\ud83d"}}], "usage": {"cost": NaN}}')


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": -5, "completion_tokens": 3}, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": 10**30}, Usage()),
        ({"prompt_tokens": 5.0, "completion_tokens": 3, "cost": -1}, Usage(5, 3, reported=True)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "cost": 1e308}, Usage(5, 3, reported=True)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": -9}}, Usage(5, 0, reported=True)),
    ],
)
def test_usage_that_cannot_be_is_not_counted(usage: dict[str, Any], read: Usage) -> None:
    """A negative cost would give budget back, and an endless one could not be counted at all."""
    assert whole(ChatAnswer, chat({"content": "a"}, usage=usage)).usage == read


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChatAnswer, chat({"tool_calls": [call("made_0"), call("made_0"), call(None, index=7)]})),
        (MessagesAnswer, {"content": [{"type": "tool_use", "id": id_, "name": "a"} for id_ in ("x", "x", None)]}),
        (ResponsesAnswer, {"output": [{"type": "function_call", "call_id": id_} for id_ in ("x", "x", None)]}),
    ],
)
def test_no_two_calls_of_an_answer_have_one_id(kind: Made, body: object) -> None:
    ids = [each.id for each in whole(kind, body).tool_calls]
    assert len(set(ids)) == 3
    assert ids[0] in {"made_0", "x"}


def streamed(kind: Made, event: dict[str, Any]) -> Callable[[int], object]:
    data = json.dumps(event).encode()

    def taken(times: int) -> Plan:
        answer = answer_of(kind)
        deltas = [delta for _ in range(times) for delta in answer.take(data)]
        # As what is left of a stream that broke, too.
        plan_of(deltas, model="m", provider="openai")
        answer.take(b'{"type": "message_start", "message": {}}')
        return answer.plan()

    return taken


def grown(kind: Made, body: Callable[[int], object]) -> Callable[[int], object]:
    return lambda times: whole(kind, body(times))


LONG: dict[str, Callable[[int], object]] = {
    "arguments": streamed(ChatAnswer, {"choices": [{"delta": {"tool_calls": [call(None, "", PIECE, index=0)]}}]}),
    "names": streamed(ChatAnswer, {"choices": [{"delta": {"tool_calls": [call(None, PIECE, "", index=0)]}}]}),
    "details": streamed(
        ChatAnswer, {"choices": [{"delta": {"reasoning_details": [{"type": "reasoning.text", "text": PIECE * 4}]}}]}
    ),
    "signature": streamed(
        MessagesAnswer,
        {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": PIECE * 4}},
    ),
    "calls": grown(ChatAnswer, lambda times: chat({"tool_calls": [call(None)] * times})),
    "blocks": grown(MessagesAnswer, lambda times: {"content": [{"type": "text"}] * times}),
    "markup": lambda times: error_for(
        500, {}, json.dumps({"error": {"message": "<script " * times}}).encode(), ENDPOINT, "m"
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_answer_takes_time_by_its_length_only(name: str) -> None:
    """By its square it would hold up every other caller for minutes."""
    began = time.process_time()
    LONG[name](20_000)
    # A tenth of it where nothing else runs; by its square it takes three seconds and more.
    assert time.process_time() - began < 1.0
