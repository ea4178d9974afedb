"""The rules, each shown to find what it is for and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pagi_planner.domain.context.conversation import Conversation
from pagi_planner.domain.judgement.evaluation import judge
from pagi_planner.domain.model import Message, Role, Step
from pagi_planner.domain.state.run_state import RunState


def judged(answer: str, *, prompt: str = "Hi?", steps: tuple[Step, ...] = ()):
    state = RunState("r", prompt=prompt, answer=answer, steps=list(steps))
    state.talk = Conversation([Message(Role.USER, prompt), Message(Role.ASSISTANT, answer)])
    return judge(state)


def step(tool: str, error: str | None) -> Step:
    return Step(1, tool, {"expression": "6 * 7"}, None, error, datetime.now(UTC))


@pytest.mark.parametrize(
    ("rule", "answer", "kwargs"),
    [
        ("empty", "  \n", {}),
        ("refusal", "I'm sorry, but I can't help with that.", {}),
        ("refusal", "I cannot do that", {}),
        ("failed_tools", "It is 42.", {"steps": (step("math", "no"),)}),
        ("unanswered", "Paris.", {"prompt": "Is Paris large? How deep are oceans?"}),
    ],
)
def test_each_rule_finds_its_fault(rule, answer, kwargs):
    assert rule in [finding.rule for finding in judged(answer, **kwargs).findings]


@pytest.mark.parametrize(
    ("answer", "kwargs"),
    [
        ("Paris.", {"prompt": "What is the capital of France?"}),
        ("I can do that.", {}),
        ("42", {"steps": (step("math", "no"), step("python", None))}),
        ("Paris is large; oceans are deep.", {"prompt": "Is Paris large? How deep are oceans?"}),
        ("Done.", {"prompt": "What is 6 * 7? And what is 6 + 7?", "steps": (step("math", None),)}),
    ],
)
def test_a_good_answer_has_no_finding(answer, kwargs):
    evaluation = judged(answer, **kwargs)
    assert (evaluation.findings, evaluation.score, evaluation.feedback) == ((), 1.0, "")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["word ", " ", "x", "{", ", "])
def test_a_long_prompt_without_any_mark_holds_nobody_up(piece):
    assert judged("Done.", prompt=piece * (100_000 // len(piece))).findings == ()


def test_only_an_answer_that_cannot_be_used_is_sent_back():
    assert judged("").feedback
    assert not judged("I'm sorry, the tool failed.", steps=(step("math", "no"),)).feedback
