"""Evaluate: judge an answer, and send it back where it will not do."""

from __future__ import annotations

from pagi_planner.domain import records
from pagi_planner.domain.evaluation import judge
from pagi_planner.domain.events import EventType
from pagi_planner.domain.work import Work


def evaluate(work: Work) -> None:
    """Notes what the rules say. Feedback stands there only where the model may try once more."""
    judged = judge(work.state)
    feedback = judged.feedback if _may_refine(work) else ""
    work.note(EventType.EVALUATION, records.evaluation(judged, feedback))


def _may_refine(work: Work) -> bool:
    """A poor answer is better than none, which is what a limit would make of it."""
    state = work.state
    return state.refinements < work.parts.policy.max_refinements and state.model_calls < work.request.limits.max_steps
