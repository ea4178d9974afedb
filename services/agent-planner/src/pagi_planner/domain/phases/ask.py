"""Plan: ask the model for the next step."""

from __future__ import annotations

from dataclasses import replace

from pagi_planner.domain import records, turn
from pagi_planner.domain.events import EventType
from pagi_planner.domain.model import ModelAnswer, ModelRequest, RunStatus
from pagi_planner.domain.phases.understand import tools_of
from pagi_planner.domain.ports import StreamingModel
from pagi_planner.domain.work import RunLimitError, Work


async def ask(work: Work) -> None:
    """Asks, and notes the answer.

    The intent is durable before the call. Where it stands there already, an earlier process died on the way: the
    question is asked again under the same effect id, and a gateway that has the answer gives that one.

    Raises:
        RunLimitError: No further call is allowed.
        PagiError: The model cannot be reached, or refuses.
    """
    state = work.state
    specs = await tools_of(work)
    if not state.asked:
        _check_limits(work)
        step = state.model_calls + 1
        data = records.model_request(step, f"{state.run_id}/{step}/model", len(state.conversation()))
        work.note(EventType.PLAN_MODEL_REQUEST, data)
        await work.sync()
    request = ModelRequest(
        state.conversation(), tuple(specs.values()), work.request.model, state.asked, _money_left(work)
    )
    answer = await _answer(work, request)
    answer = replace(answer, tool_calls=turn.distinct(answer.tool_calls, state.model_calls))
    work.note(EventType.PLAN_MODEL_RESPONSE, records.model_response(state.model_calls, state.asked, answer))


async def _answer(work: Work, request: ModelRequest) -> ModelAnswer:
    """The answer, given word by word where somebody listens."""
    model, feed, state = work.parts.model, work.parts.feed, work.state
    if not (feed.is_watched(state.run_id) and isinstance(model, StreamingModel)):
        return await model.answer(request)
    with feed.live_text(state.run_id, state.seq, state.model_calls) as words:
        try:
            return await model.stream(request, words)
        except BaseException:
            work.unfinished = words.text
            raise


def _check_limits(work: Work) -> None:
    limits, state = work.request.limits, work.state
    if state.model_calls >= limits.max_steps:
        raise RunLimitError(RunStatus.LIMIT_STEPS, f"its {limits.max_steps} steps were used up")
    left_usd = _money_left(work)
    if left_usd is not None and left_usd <= 0:
        raise RunLimitError(RunStatus.LIMIT_COST, f"its {limits.max_cost_usd:g} USD were used up")
    if limits.max_tokens is not None and state.usage.tokens >= limits.max_tokens:
        raise RunLimitError(RunStatus.LIMIT_TOKENS, f"its {limits.max_tokens} tokens were used up")


def _money_left(work: Work) -> float | None:
    """What may still be spent (US dollars); None: there is no bound."""
    most = work.request.limits.max_cost_usd
    return None if most is None else most - (work.state.usage.cost_usd or 0.0)
