"""Execute: ask the model for the next step."""

from __future__ import annotations

import logging

from pagi_planner.domain.context.tokens import Room
from pagi_planner.domain.errors import ContextTooLongError, EffectConflictError
from pagi_planner.domain.model import ModelAnswer, ModelRequest, RunStatus
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.ports import StreamingModel
from pagi_planner.domain.run import records
from pagi_planner.domain.run.phases.allowance import answer_tokens, money_left, reached_limit
from pagi_planner.domain.run.phases.understand import tools_of
from pagi_planner.domain.run.phases.window import compact_strongly, make_room
from pagi_planner.domain.run.work import RunLimitError, Work
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.tools import turn

log = logging.getLogger(__name__)

# A question is given so many effect ids; more would be a fault of the gateway or of ours.
MOST_QUESTIONS = 4


async def ask(work: Work) -> None:
    """Asks, and notes the answer.

    The intent is durable before the call. Where it stands there already, an earlier process died on the way: the
    question is asked again under the same effect id, and a gateway that has the answer gives that one.

    Raises:
        RunLimitError: No further call is allowed.
        ContextTooLongError: The conversation is too long for the model even after it was made shorter.
        PagiError: The model cannot be reached, or refuses.
    """
    state = work.state
    if not state.asked:
        _check_limits(work)
        tokens, room = await make_room(work, await tools_of(work))
        step = state.model_calls + 1
        data = records.model_request(step, f"{state.run_id}/{step}/model", len(state.conversation()), tokens, room)
        work.note(EventType.PLAN_MODEL_REQUEST, data)
        await work.sync()
    specs = await tools_of(work)
    request = ModelRequest(
        state.conversation(),
        tuple(specs.values()),
        work.request.model,
        state.asked,
        money_left(work),
        # As it was said first: of the model something else may be known now, and it would be another question.
        max_output_tokens=state.answer_tokens or await answer_tokens(work, work.request.model),
        temperature=work.request.temperature,
        is_patient=state.model_calls > 1 or work.epoch > FIRST_EPOCH,
    )
    try:
        answer = await _answer(work, request)
    except ContextTooLongError as error:
        await _shorten(work, error)
        return
    except EffectConflictError as error:
        await _ask_anew(work, error)
        return
    answer, repaired = turn.healed(answer, state.model_calls, [each.call_id for each in state.approvals])
    work.note(EventType.PLAN_MODEL_RESPONSE, records.model_response(state.model_calls, state.asked, answer, repaired))


async def _ask_anew(work: Work, error: EffectConflictError) -> None:
    """Gives the question another effect id: the gateway has an answer to the one that an earlier process asked.

    What the model reads has changed since, with the tools say, so that the answer to the old question is not one to
    this; it was paid for, and is not used.
    """
    state = work.state
    named = f"{state.run_id}/{state.model_calls}/model"
    count = int(state.asked.removeprefix(named).removeprefix("/") or "1") + 1
    if count > MOST_QUESTIONS:
        raise error
    log.info("%s is asked anew: %s", state.asked, error.message)
    # Of the size nothing is said: the tools may be others now.
    data = records.model_request(
        state.model_calls, f"{named}/{count}", len(state.conversation()), 0, Room(0, 0, state.answer_tokens)
    )
    work.note(EventType.PLAN_MODEL_REQUEST, data)
    await work.sync()


async def _shorten(work: Work, error: ContextTooLongError) -> None:
    """Makes the conversation shorter, once: the next call asks it again."""
    if work.state.is_too_long or not await compact_strongly(work):
        message = f"the conversation is too long for the model, and cannot be made shorter: {error.message}"
        raise ContextTooLongError(message) from error


async def _answer(work: Work, request: ModelRequest) -> ModelAnswer:
    """The answer, given word by word where somebody listens."""
    model, feed, state = work.parts.model, work.parts.feed, work.state
    work.unfinished = ""
    if not (feed.is_watched(state.run_id) and isinstance(model, StreamingModel)):
        return await model.answer(request)
    with feed.live_text(state.run_id, state.seq, state.model_calls) as words:
        try:
            return await model.stream(request, words)
        except BaseException:
            work.unfinished = words.text
            raise


def _check_limits(work: Work) -> None:
    """Whether the model may be asked once more, and whether that would bring anything."""
    limits, state = work.request.limits, work.state
    if state.model_calls >= limits.max_steps:
        raise RunLimitError(RunStatus.LIMIT_STEPS, f"its {limits.max_steps} steps were used up")
    if limit := reached_limit(work):
        raise limit
    if fault := state.progress.fault((), work.parts.policy.max_repeats):
        raise RunLimitError(RunStatus.NO_PROGRESS, fault)
