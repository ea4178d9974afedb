"""A recorded run, driven once more offline with the answers that its journal holds.

It shows whether this version of the planner, given the same answers, would take the same steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from pagi_chassis import errors as chassis_errors
from pagi_chassis.errors import PagiError, UnavailableError

from pagi_planner.domain import errors
from pagi_planner.domain.agent import Agent
from pagi_planner.domain.errors import ContextTooLongError
from pagi_planner.domain.model import Decision, ModelAnswer, ModelRequest, ToolCall, ToolOutcome, ToolSpec, Usage
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import FINAL, Event, EventType
from pagi_planner.domain.state.run_state import TOO_LONG, Phase, RunState

# What no two runs have in common; `tokens` counts the schemas of tools, too, which the journal does not hold.
_VOLATILE = frozenset({"traceparent", "tracestate", "latency_ms", "duration_ms", "tokens"})
_ANSWERS = (EventType.PLAN_MODEL_RESPONSE, EventType.MODEL_RESULT)
_OUTCOMES = (EventType.TOOL_RESULT, EventType.TOOL_ERROR)
# How these ended a run came from outside, or from the time of day.
_NOT_REPEATABLE = (EventType.PLAN_CANCELLED,)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the replay leaves the record; one of the two is None where the other goes on alone."""

    recorded: Event | None
    replayed: Event | None

    @property
    def members(self) -> list[str]:
        """The members of `data` that differ; none where the events are of different kinds."""
        if self.recorded is None or self.replayed is None or self.recorded.type is not self.replayed.type:
            return []
        a, b = _stable(self.recorded), _stable(self.replayed)
        return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


async def replay(events: Sequence[Event]) -> Difference | None:
    """Drives the run again from the context that it was given.

    Args:
        events: The whole journal of the run.

    Returns:
        The first difference; None: every step is the same.

    Raises:
        ValueError: The journal ends before the context was loaded: there is nothing to replay.
    """
    begin = next((n for n, event in enumerate(events, 1) if event.type is EventType.CONTEXT_LOADED), 0)
    if not begin:
        raise ValueError("the run ended before its context was loaded: there is nothing to replay")
    journal = ListJournal()
    for event in events[:begin]:
        journal.append(event)
    agent = Agent(_RecordedModel(events), tools=_RecordedTools(events), journal=journal)
    state = RunState.of(events[:begin])
    # The record says how long it took; here nothing takes time.
    state.request = {**state.request, "limits": {**state.request["limits"], "timeout_s": 3_600.0}}
    state.paused_s = state.used_s
    await _drive(agent, state, [event for event in events if event.type is EventType.APPROVAL_DECIDED])
    replayed = await journal.events(state.run_id)
    for one, other in zip_longest(_in_order(events), _in_order(replayed)):
        if one is not None and one.type in _NOT_REPEATABLE:
            return None
        if one is None or other is None or one.type is not other.type or _stable(one) != _stable(other):
            return Difference(one, other)
    return None


async def _drive(agent: Agent, state: RunState, decisions: Iterable[Event]) -> None:
    words = iter(decisions)
    while state.phase is not Phase.ENDED:
        if state.phase is Phase.WAIT:
            if (word := next(words, None)) is None:
                return
            data = word.data
            agent.reopen(state).decide(data["call_id"], Decision(data["approved"], data["reason"], data["arguments"]))
            continue
        try:
            await agent.reopen(state).drive()
        except PagiError:
            # Recorded by the run itself.
            return


class _RecordedModel:
    """Gives each call the answer that the journal holds for it, and the error where the run ended in one."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._answers = {event.data["effect_id"]: event for event in events if event.type in _ANSWERS}
        self._too_long = _too_long(events)
        self._end = next((event for event in events if event.type in FINAL), None)

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """The recorded answer.

        Raises:
            UnavailableError: The journal has none.
        """
        if event := self._answers.get(request.effect_id):
            return _answer(event.data)
        if request.effect_id in self._too_long:
            raise ContextTooLongError("the conversation was too long")
        told = self._end.data.get("error", "") if self._end else ""
        raise UnavailableError(told or f"the journal holds no answer for {request.effect_id}")


class _RecordedTools:
    """Gives each call the outcome that the journal holds for it."""

    know_effects = True

    def __init__(self, events: Sequence[Event]) -> None:
        self._outcomes = {event.data["effect_id"]: event.data for event in events if event.type in _OUTCOMES}
        self._asked = {event.data["tool"] for event in events if event.type is EventType.APPROVAL_REQUESTED}
        self._names = next(event.data["tools"] for event in events if event.type is EventType.CONTEXT_LOADED)

    async def specs(self) -> tuple[ToolSpec, ...]:
        """The tools that the run was offered, as far as the journal tells of them."""
        return tuple(ToolSpec(name, "", "{}", requires_approval=name in self._asked) for name in self._names)

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """The recorded outcome.

        Raises:
            UnavailableError: The journal has none.
        """
        if (data := self._outcomes.get(effect_id)) is None:
            raise UnavailableError(f"the journal holds no outcome of {effect_id}")
        return ToolOutcome(data["verdict"], data["output"], error=data["error"], truncated=data["truncated"])


def _too_long(events: Sequence[Event]) -> set[str]:
    """The effect ids of the model calls that were refused for the length of the conversation."""
    refused, asked = set(), ""
    for event in events:
        if event.type is EventType.PLAN_MODEL_REQUEST:
            asked = event.data["effect_id"]
        elif event.type is EventType.CONTEXT_COMPACTED and event.data["because"] == TOO_LONG:
            refused.add(asked)
    return refused


def _answer(data: Mapping[str, Any]) -> ModelAnswer:
    if data.get("error_type"):
        kind: Any = getattr(errors, data["error_type"], None) or getattr(chassis_errors, data["error_type"], PagiError)
        raise kind(data["error"])
    if data.get("error", "").startswith("no answer"):
        raise TimeoutError
    return ModelAnswer(
        text=data["text"],
        tool_calls=tuple(ToolCall(each["id"], each["name"], each["arguments"]) for each in data.get("tool_calls", ())),
        usage=Usage(data["input_tokens"], data["output_tokens"], data["cost_usd"]),
        finish_reason=data["finish_reason"],
        model=data["model"],
        provider=data["provider"],
    )


def _in_order(events: Sequence[Event]) -> list[Event]:
    """The events, with the outcomes of one turn in the order of its calls: whichever came first is chance."""
    ordered: list[Event] = []
    outcomes: list[Event] = []
    for event in events:
        # Who worked on the run is not what it did.
        if event.type is EventType.RUN_RESUMED:
            continue
        if event.type in _OUTCOMES:
            outcomes.append(event)
            continue
        ordered += sorted(outcomes, key=lambda each: each.data["effect_id"])
        outcomes = []
        ordered.append(event)
    ordered += sorted(outcomes, key=lambda each: each.data["effect_id"])
    return [replace(event, seq=seq) for seq, event in enumerate(ordered, 1)]


def _stable(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.data.items() if name not in _VOLATILE}
