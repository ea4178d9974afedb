"""Whether an answer will do, by rules. Each finding lowers the score; a low score asks for a better answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pagi_planner.domain.state.run_state import RunState

# At or above this an answer is given as it is.
THRESHOLD = 0.5

_REFUSAL = re.compile(
    r"^\W*(i('m| am) (sorry|afraid)|sorry|i (can(no|')t|am (not able|unable) to|won't)|as an ai\b)", re.IGNORECASE
)
# A match takes a sentence with what ends it, or the rest, and never fails, so that reading stays linear.
_SENTENCE = re.compile(r"[^.?!\n]*[.?!\n]?")
_WORD = re.compile(r"[^\W_]{4,}|\d+")
_COMMON = frozenset(
    [
        "what",
        "when",
        "where",
        "which",
        "whose",
        "whom",
        "with",
        "that",
        "this",
        "these",
        "those",
        "have",
        "does",
        "about",
        "would",
        "could",
        "should",
    ]
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with an answer.

    Attributes:
        rule: Its name.
        detail: What was found, for people.
        weight: How much of the score it takes, 0 to 1.
        advice: What the model is asked to do about it.
    """

    rule: str
    detail: str
    weight: float
    advice: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the rules say of an answer; `score` is 1 where nothing was found."""

    findings: tuple[Finding, ...]

    @property
    def score(self) -> float:
        """1 less the weights, at least 0."""
        return max(0.0, 1.0 - sum(finding.weight for finding in self.findings))

    @property
    def feedback(self) -> str:
        """What to ask of the model; empty where the answer will do."""
        if self.score >= THRESHOLD:
            return ""
        return " ".join(["Your answer does not do yet.", *(finding.advice for finding in self.findings)])


def judge(state: RunState) -> Evaluation:
    """Judges the answer of a run that is about to end."""
    rules = (_empty, _refusal, _failed_tools, _unanswered, _unfinished_plan)
    return Evaluation(tuple(finding for rule in rules if (finding := rule(state))))


def _empty(state: RunState) -> Finding | None:
    last = state.talk.messages[-1].text if state.talk.messages else ""
    if last.strip():
        return None
    return Finding("empty", "the model gave neither a text nor a tool call", 1.0, "Give an answer in words.")


def _refusal(state: RunState) -> Finding | None:
    if not _REFUSAL.match(state.answer):
        return None
    return Finding("refusal", "the answer reads like a refusal", 0.2, "Say what can be done, or which rule forbids it.")


def _failed_tools(state: RunState) -> Finding | None:
    failed = sorted({step.tool for step in state.steps if step.error})
    if not failed or len(failed) < len({step.tool for step in state.steps}):
        return None
    return Finding("failed_tools", f"every tool failed: {', '.join(failed)}", 0.2, "Say what could not be done.")


def _unanswered(state: RunState) -> Finding | None:
    """With several questions in a request, each should leave a trace in the answer."""
    questions = [found.strip() for found in _SENTENCE.findall(state.prompt) if found.endswith("?")]
    if len(questions) < 2:
        return None
    said = _words(state.answer) | {word for step in state.steps for word in _words(str(step.input))}
    missed = [question for question in questions if (words := _words(question)) and not words & said]
    if not missed:
        return None
    return Finding("unanswered", f"no trace of: {' '.join(missed)}", 0.3, f"Answer this too: {' '.join(missed)}")


def _unfinished_plan(state: RunState) -> Finding | None:
    """Steps of the plan that need a tool, and had none."""
    undone = state.plan.undone if state.plan else ()
    if not undone or state.plan is None or state.plan.has_failed:
        return None
    steps = "; ".join(step.text for step in undone)
    return Finding("unfinished_plan", f"not done: {steps}", 0.6, f"Do this first, or say why it is not needed: {steps}")


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)} - _COMMON
