"""A run that begins where another one stood: its journal up to a step, with another input or model from there on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pagi_chassis.errors import InvalidArgumentError

from pagi_planner.domain.state.events import FINAL, Event, EventType
from pagi_planner.domain.state.run_state import Phase, RunState


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be different; None: as it was.

    Attributes:
        prompt: In place of the request's. The steps that are kept stay as they are.
        model: For the calls that come.
    """

    prompt: str | None = None
    model: str | None = None


def fork(
    events: Sequence[Event], step: int, change: Change, *, run_id: str, trace_id: str, at: datetime
) -> list[Event]:
    """The journal that the new run begins with.

    Args:
        events: Of the run that is forked.
        step: The model call up to and with which everything is kept, its tools included; 0: only what the run began
            with, and with another prompt not even that.
        change: What shall be different.
        run_id: Of the new run.
        trace_id: Of the new run.
        at: Now: the kept events are moved to end then, so that the time since is not used up by the new run.

    Raises:
        InvalidArgumentError: The run has no such step, or does not go on from it.
    """
    kept = [_changed(event, change, step) for event in until_step(events, step, whole=change.prompt is None)]
    since = at - kept[-1].timestamp if kept else timedelta()
    kept = [
        replace(event, seq=seq, run_id=run_id, trace_id=trace_id, timestamp=event.timestamp + since)
        for seq, event in enumerate(kept, start=1)
    ]
    if not 0 <= step <= _model_calls(kept) or not goes_on(kept):
        steps = ", ".join(map(str, forkable(events))) or "none"
        raise InvalidArgumentError(
            f"step: the run does not go on from step {step}; it does from: {steps}", field="step"
        )
    return kept


def forkable(events: Sequence[Event]) -> list[int]:
    """The steps after which the run went on, and can go on in another way."""
    calls = _model_calls(events)
    return [step for step in range(calls + 1) if goes_on(until_step(events, step))]


def goes_on(events: Sequence[Event]) -> bool:
    """Whether a run with this journal asks the model next, with nothing of the turn before it open.

    A question without an answer is the other run's: its effect id may get one still.
    """
    if not events:
        return False
    state = RunState.of(events)
    return state.phase in (Phase.UNDERSTAND, Phase.ASK) and not state.asked


def until_step(events: Sequence[Event], step: int, *, whole: bool = True) -> list[Event]:
    """The events up to the model call behind the step. Without `whole`, step 0 is only the request."""
    kept: list[Event] = []
    for event in events:
        is_next_call = event.type is EventType.PLAN_MODEL_REQUEST and event.data["step"] > step
        if event.type in FINAL or is_next_call or (step == 0 and not whole and kept):
            break
        kept.append(event)
    return kept


def _model_calls(events: Sequence[Event]) -> int:
    return max((event.data["step"] for event in events if event.type is EventType.PLAN_MODEL_REQUEST), default=0)


def _changed(event: Event, change: Change, step: int) -> Event:
    data: dict[str, Any] = event.data
    if event.type is EventType.PLAN_START:
        # Begun by whoever forks it: a parent of the other run waits for the other run.
        data = {**data, "forked_from": {"run_id": event.run_id, "step": step}, "parent_run_id": ""}
        if change.prompt is not None:
            data["prompt"] = change.prompt
        if change.model is not None:
            data["model"] = change.model
    elif event.type is EventType.CONTEXT_LOADED and change.prompt is not None:
        *before, asked = data["messages"]
        data = {**data, "messages": [*before, {**asked, "text": change.prompt}]}
    elif event.type is EventType.EVALUATION and change.prompt is not None:
        # However good an answer was to the other prompt, any to this one is better.
        data = {**data, "score": 0.0}
    return replace(event, data=data)
