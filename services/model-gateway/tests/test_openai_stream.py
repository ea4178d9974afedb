"""Reading server-sent events and joining the pieces in them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.adapters.http_events import EventReader
from pagi_gateway.adapters.openai_stream import ChatAnswer
from pagi_gateway.domain.model import Plan, TextDelta

BODY = (
    b': OPENROUTER PROCESSING\r\n\r\ndata: {"a": "\xc3\xa9"}\r\n\r\n'
    b"event: x\nid: 7\ndata:two\ndata: lines\n\n\n\ndata: [DONE]\n\ndata: never ended"
)
EVENTS = ['{"a": "\u00e9"}'.encode(), b"two\nlines", b"[DONE]"]


@given(st.lists(st.integers(0, len(BODY)), max_size=20))
def test_events_do_not_depend_on_the_pieces_they_come_in(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(BODY)]
    reader = EventReader()
    events = [e for a, b in pairwise(places) for e in reader.feed(BODY[a:b])]
    assert events == EVENTS


def gathered(*choices: dict[str, Any], usage: object = None) -> tuple[list[str], Plan]:
    answer = ChatAnswer(Endpoint("openai", "http://x", "m"), "m", (f"made_{n}" for n in range(9)))
    choices = ({"delta": {}}, *choices)
    deltas = [delta for choice in choices for delta in answer.take(json.dumps({"choices": [choice]}).encode())]
    if usage:
        answer.take(json.dumps({"choices": [], "usage": usage}).encode())
    return [delta.text for delta in deltas if isinstance(delta, TextDelta)], answer.plan()


def piece(index: int | None, id_: str | None = None, name: str | None = None, text: str = "") -> dict[str, Any]:
    call: dict[str, Any] = {"function": {"name": name, "arguments": text}}
    call |= {"index": index} if index is not None else {}
    call |= {"id": id_} if id_ else {}
    return {"delta": {"tool_calls": [call]}}


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(0, "a", "math", '{"e'), piece(0, text='":1}'), piece(1, "b", "todo"), piece(1, text="{}")],
        [piece(0, "a", "math", '{"e'), piece(1, "b", "todo"), piece(1, text="{}"), piece(0, text='":1}')],
        [piece(None, "a", "math", '{"e'), piece(None, text='":1}'), piece(None, "b", "todo", "{}")],
        [piece(0, "a", "math", '{"e":1}'), piece(0, "b", "todo", "{}")],
    ],
    ids=["in order", "interleaved", "without index", "every call is number 0"],
)
def test_pieces_of_tool_calls_are_joined(pieces: list[dict[str, Any]]) -> None:
    _, plan = gathered(*pieces)
    assert [(c.id, c.name, c.arguments_json) for c in plan.tool_calls] == [
        ("a", "math", '{"e":1}'),
        ("b", "todo", "{}"),
    ]


def test_calls_without_id_get_one() -> None:
    _, plan = gathered(piece(0, None, "math", "{}"))
    assert plan.tool_calls[0].id == "made_0"


@given(st.text(), st.lists(st.integers(0, 60), max_size=8))
def test_text_cut_anywhere_even_inside_a_surrogate_pair_is_the_text_again(text: str, cuts: list[int]) -> None:
    written = text.encode("utf-16-le")
    places = sorted({0, len(written), *(2 * cut for cut in cuts if 2 * cut < len(written))})
    parts = [written[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(places)]
    texts, plan = gathered(*({"delta": {"content": part}} for part in parts))
    assert "".join(texts) == plan.text == text


def test_usage_comes_last_and_may_be_missing() -> None:
    _, plan = gathered({"delta": {"content": "x"}}, usage={"prompt_tokens": 5, "completion_tokens": 1})
    assert (plan.usage.input_tokens, plan.usage.output_tokens, plan.usage.reported) == (5, 1, True)
    assert not gathered({"delta": {"content": "x"}})[1].usage.reported


@pytest.mark.parametrize(
    ("written", "read"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("eos", "other"), (None, "stop")],
)
def test_finish_reasons(written: str | None, read: str) -> None:
    assert gathered({"delta": {"content": "x"}, "finish_reason": written})[1].finish_reason == read
