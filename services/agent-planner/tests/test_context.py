"""Fitting the first messages into the window."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from pagi_planner.domain.context.initial_context import fit, render_passage
from pagi_planner.domain.context.tokens import GENERAL
from pagi_planner.domain.model import Context, Passage, Resource, Role, RunRequest, Turn

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def turn(text: str, role: str = "user") -> Turn:
    return Turn(role, text, NOW)


def passage(text: str, score: float) -> Passage:
    return Passage(text[:5], text, score, "Domain-KB", "Domain-KB/a.md")


def test_all_of_it_fits_into_a_large_window():
    context = Context("SOUL", (turn("old"), turn("reply", "assistant")), (passage("fact", 0.1),))
    fitted = fit(context, RunRequest("now", "s"), max_tokens=10_000)
    assert [message.role for message in fitted.messages] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]
    assert fitted.left_out == {"passages": 0, "turns": 0}
    assert fitted.tokens < 10_000


def test_the_better_passages_and_the_newer_turns_stay():
    turns = tuple(turn(f"turn {n} " + "x" * 400) for n in range(20))
    passages = tuple(passage(f"passage {n} " + "y" * 400, n / 10) for n in range(10))
    fitted = fit(Context("SOUL", turns, passages), RunRequest("now", "s"), max_tokens=1_200)
    kept_turns = [message.text.split(" x")[0] for message in fitted.messages[1:-1]]
    assert kept_turns == [f"turn {n}" for n in range(20 - len(kept_turns), 20)]
    assert [each.score for each in fitted.passages] == [n / 10 for n in range(9, 9 - len(fitted.passages), -1)]
    assert fitted.passages
    assert fitted.left_out == {"passages": 10 - len(fitted.passages), "turns": 20 - len(kept_turns)}


def test_persona_and_prompt_are_whole_even_where_nothing_else_fits():
    fitted = fit(Context("S" * 4_000, (turn("old"),), (passage("p", 1),)), RunRequest("P" * 4_000, "s"), max_tokens=500)
    assert fitted.messages[0].text.startswith("S" * 4_000)
    assert fitted.messages[-1].text == "P" * 4_000
    assert fitted.left_out == {"passages": 1, "turns": 1}


def test_tool_turns_of_the_past_are_not_replayed_as_messages():
    turns = (turn("do"), turn("math {}", "tool-plan"), turn("3", "tool-output"), turn("done", "assistant"))
    fitted = fit(Context("", turns, ()), RunRequest("next", "s"), max_tokens=1_000)
    assert [message.text for message in fitted.messages[1:]] == ["do", "done", "next"]


def test_resources_are_named():
    request = RunRequest("read it", "s", resources=(Resource("url", "https://example.com/a"),))
    assert "- url: https://example.com/a" in fit(Context(), request, max_tokens=1_000).messages[0].text


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_no_passage_can_leave_its_element(text, source, headings):
    rendered = render_passage(Passage("1", text, 1.0, "Domain-KB", source, tuple(headings)))
    assert rendered.count("<") == 2
    assert rendered.count(">") == 2 + rendered.count(" > ") * 0 + rendered.split(">")[0].count(">")


@given(
    st.lists(st.text(max_size=200), max_size=10),
    st.lists(st.text(max_size=200), max_size=10),
    st.integers(500, 5_000),
)
def test_the_window_is_kept_whatever_comes(turns, passages, max_tokens):
    context = Context("soul", tuple(map(turn, turns)), tuple(passage(text, 0.5) for text in passages))
    fitted = fit(context, RunRequest("prompt", "s"), max_tokens=max_tokens)
    assert sum(GENERAL.tokens(message.text) for message in fitted.messages) <= max_tokens
