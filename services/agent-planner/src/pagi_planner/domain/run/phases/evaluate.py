"""Evaluate: judge an answer, and send it back where it will not do."""

from __future__ import annotations

from pagi_planner.domain.errors import UnknownModelError
from pagi_planner.domain.judgement.evaluation import Evaluation, judge
from pagi_planner.domain.judgement.verdict import INSTRUCTIONS, SCHEMA_JSON, Verdict, verdict_of
from pagi_planner.domain.model import Message, Role
from pagi_planner.domain.run import records
from pagi_planner.domain.run.phases.allowance import reached_limit
from pagi_planner.domain.run.phases.aside import ask_aside
from pagi_planner.domain.run.work import Work
from pagi_planner.domain.state.asides import Aside
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.exchange import text_of

# What the judge reads of each result, and of how many of the last.
RESULT_CHARACTERS = 2_000
RESULTS = 10


async def evaluate(work: Work) -> None:
    """Notes what the rules say, and the judge where one is asked for.

    Feedback stands there only where the model may try once more. A judge that is away, or talks rubbish, costs nothing
    but its verdict.
    """
    judged = judge(work.state)
    verdict, error = None, ""
    # Where the rules send it back already, a second opinion is not worth its price.
    if work.request.evaluate.judge and not judged.feedback:
        verdict, error = await _ask_judge(work)
    feedback = _feedback(work, judged, verdict) if _may_refine(work) else ""
    work.note(EventType.EVALUATION, records.evaluation(judged, verdict, error, feedback))


def _feedback(work: Work, judged: Evaluation, verdict: Verdict | None) -> str:
    if judged.feedback or verdict is None or verdict.score >= work.request.evaluate.threshold:
        return judged.feedback
    return " ".join(part for part in ("Your answer does not do yet.", verdict.reason, verdict.advice) if part)


def _may_refine(work: Work) -> bool:
    """A poor answer is better than none, which is what a limit would make of it."""
    state, asked = work.state, work.request.evaluate.max_refinements
    most = work.parts.policy.max_refinements if asked is None else asked
    has_steps = state.model_calls < work.request.limits.max_steps
    return state.refinements < most and has_steps and reached_limit(work) is None


async def _ask_judge(work: Work) -> tuple[Verdict | None, str]:
    """The verdict, or why there is none."""
    number = work.state.evaluations + 1
    question = _question(work)
    aside = await ask_aside(
        work, f"judge/{number}", question, model=work.parts.policy.judge_model, schema_json=SCHEMA_JSON
    )
    if aside.error_type == UnknownModelError.__name__:
        # Nobody has set up a judge: the run's own model is one.
        aside = await ask_aside(work, f"judge/{number}-own", question, schema_json=SCHEMA_JSON)
    return _read(aside)


def _read(aside: Aside) -> tuple[Verdict | None, str]:
    if aside.error:
        return None, aside.error
    try:
        return verdict_of(aside.text), ""
    except ValueError as fault:
        return None, f"the verdict cannot be read: {fault}"


def _question(work: Work) -> tuple[Message, ...]:
    state = work.state
    results = [
        f"{step.tool} {text_of(step.input)[:RESULT_CHARACTERS]}: "
        f"{(step.error or text_of(step.output))[:RESULT_CHARACTERS]}"
        for step in state.steps[-RESULTS:]
    ]
    material = [
        f"<request>\n{state.prompt}\n</request>",
        f"<passages>\n{state.talk.passages[: RESULTS * RESULT_CHARACTERS]}\n</passages>",
        "<tool_results>\n" + "\n".join(results) + "\n</tool_results>",
        f"<answer>\n{state.answer}\n</answer>",
    ]
    return Message(Role.SYSTEM, INSTRUCTIONS), Message(Role.USER, "\n".join(material))
