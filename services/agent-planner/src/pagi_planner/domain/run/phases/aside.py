"""Asks a model something beside the conversation: for a plan, a verdict, a summary. Never what a run depends on."""

from __future__ import annotations

import asyncio
import logging

from pagi_chassis import telemetry
from pagi_chassis.errors import PagiError

from pagi_planner.domain.model import Message, ModelAnswer, ModelRequest
from pagi_planner.domain.run import records
from pagi_planner.domain.run.phases.allowance import answer_tokens, money_left, reached_limit
from pagi_planner.domain.run.work import Work
from pagi_planner.domain.state.asides import Aside
from pagi_planner.domain.state.events import EventType

log = logging.getLogger(__name__)


async def ask_aside(
    work: Work, name: str, messages: tuple[Message, ...], *, model: str = "", schema_json: str = ""
) -> Aside:
    """The answer, or why there is none: it is for the caller to do without.

    What was asked before is answered from the journal; what was asked and not answered is asked again under the same
    effect id.

    Args:
        work: The run.
        name: What the effect id adds to the run's: `plan/1`.
        messages: The question.
        model: Empty: that of the run.
        schema_json: JSON Schema of the answer; empty: any text.
    """
    state = work.state
    if known := state.asides.answer(name):
        return known
    effect_id, purpose = f"{state.run_id}/{name}", name.partition("/")[0]
    if not state.asides.was_asked(name):
        if limit := reached_limit(work):
            return Aside("", f"not asked: {limit.reason}")
        work.note(EventType.MODEL_CALL, records.aside_call(purpose, effect_id))
        await work.sync()
    request = ModelRequest(
        messages,
        (),
        model or work.request.model,
        effect_id,
        money_left(work),
        max_output_tokens=await answer_tokens(work, model or work.request.model),
        answer_schema_json=schema_json,
    )
    answer, error, error_type = ModelAnswer(""), "", ""
    try:
        async with asyncio.timeout(work.parts.policy.aside_timeout_s):
            with telemetry.span(f"aside {purpose}"):
                answer = await work.parts.model.answer(request)
    except PagiError as fault:
        error, error_type = fault.message, type(fault).__name__
    except TimeoutError:
        error = f"no answer within {work.parts.policy.aside_timeout_s:g} s"
    if not error and not answer.text.strip():
        error = "the model gave no text"
    if error:
        log.warning("the run does without the model's %s: %s", purpose, error)
    work.note(EventType.MODEL_RESULT, records.aside_result(purpose, effect_id, answer, error, error_type))
    return Aside(answer.text, error, error_type)
