"""A recorded run, driven once more offline with the answers that its journal holds.

It shows whether this version of the planner, given the same answers, would take the same steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from pagi_chassis import errors as chassis_errors
from pagi_chassis.errors import PagiError, UnavailableError

from pagi_planner.domain import errors
from pagi_planner.domain.agent import Agent
from pagi_planner.domain.context.tokens import Room
from pagi_planner.domain.errors import ContextTooLongError, EffectConflictError
from pagi_planner.domain.model import (
    Decision,
    ModelAnswer,
    ModelRequest,
    RunStatus,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    Usage,
)
from pagi_planner.domain.parts import Policy
from pagi_planner.domain.reasoning import reasoning_of
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import FINAL, Event, EventType
from pagi_planner.domain.state.run_state import TOO_LONG, Phase, RunState
from pagi_planner.domain.time_travel.fork import until_step
from pagi_planner.domain.tools.read_artifact import NAME as READ_ARTIFACT
from pagi_planner.domain.tools.toolbox import Scope

# What no two runs have in common.
_VOLATILE = frozenset({"traceparent", "tracestate", "latency_ms", "duration_ms"})
# Follows from the room that the tools leave, of which journals of earlier versions do not tell.
_OF_THE_ROOM = frozenset({"tokens", "tools_tokens", "room", "answer_tokens"})
_ANSWERS = (EventType.PLAN_MODEL_RESPONSE, EventType.MODEL_RESULT)
_OUTCOMES = (EventType.TOOL_RESULT, EventType.TOOL_ERROR)


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
        return sorted(_differing(self.recorded, self.replayed))


async def replay(events: Sequence[Event]) -> Difference | None:
    """Drives the run again from the context that it was given, a fork from what it took over.

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
    # What a fork took over stands under the effect ids of the other run, and may be another model's.
    forked_from = events[0].data.get("forked_from")
    given = max(begin, len(until_step(events, forked_from["step"])) if forked_from else 0)
    for event in events[:given]:
        journal.append(event)
    agent = _agent(events, journal)
    state = RunState.of(events[:given])
    # The record says how long it took; here nothing takes time.
    state.request = {**state.request, "limits": {**state.request["limits"], "timeout_s": 3_600.0}}
    state.paused_s = state.used_s
    await _drive(agent, state, _decisions(events[given:]))
    replayed = await journal.events(state.run_id)
    for one, other in zip_longest(_in_order(events), _in_order(replayed)):
        if one is not None and _came_from_outside(one):
            return None
        if one is None or other is None or one.type is not other.type or _differing(one, other):
            return Difference(one, other)
    return None


def _agent(events: Sequence[Event], journal: ListJournal) -> Agent:
    """One that knows, of what the answers do not tell, what the journal notes; the rest is as it is by default."""
    context = next(event.data for event in events if event.type is EventType.CONTEXT_LOADED)
    tools = _RecordedTools(events)
    own = [_RecordedOwnTool(name, tools) for name in context.get("own_tools", ()) if name != READ_ARTIFACT]
    return Agent(
        _RecordedModel(events),
        tools=tools,
        journal=journal,
        own_tools=own,
        policy=Policy(**context.get("policy", {})),
        rooms=_rooms(events),
    )


def _rooms(events: Sequence[Event]) -> dict[int, Room]:
    """The room of each model call, by its number. Asked anew under another id, it had that of the first asking."""
    rooms: dict[int, Room] = {}
    for event in events:
        if event.type is EventType.PLAN_MODEL_REQUEST and "room" in event.data:
            data = event.data
            rooms.setdefault(data["step"], Room(data["room"], data["tools_tokens"], data.get("answer_tokens")))
    if rooms:
        # Of a run that ended on the way to its next call.
        rooms[max(rooms) + 1] = rooms[max(rooms)]
    return rooms


def _decisions(events: Sequence[Event]) -> list[list[Event]]:
    """What people decided, together what was decided before the run went on."""
    groups: list[list[Event]] = [[]]
    for event in events:
        if event.type is EventType.APPROVAL_DECIDED:
            groups[-1].append(event)
        elif groups[-1] and event.type is not EventType.RUN_RESUMED:
            groups.append([])
    return [group for group in groups if group]


async def _drive(agent: Agent, state: RunState, decisions: Iterable[Sequence[Event]]) -> None:
    groups = iter(decisions)
    while state.phase is not Phase.ENDED:
        if state.phase is Phase.WAIT:
            if (words := next(groups, None)) is None:
                return
            for data in (word.data for word in words):
                decision = Decision(data["approved"], data["reason"], data["arguments"])
                agent.reopen(state).decide(data["call_id"], decision)
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
        self._asked_anew = _asked_anew(events)
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
        if request.effect_id in self._asked_anew:
            raise EffectConflictError("the gateway knew another question under this id")
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
        # Absent in rows of earlier versions.
        usage = Usage(**data["usage"]) if data.get("usage") else None
        return ToolOutcome(
            data["verdict"], data["output"], error=data["error"], truncated=data["truncated"], usage=usage
        )


class _RecordedOwnTool:
    """One of the planner's own tools, of which only the outcomes are known."""

    knows_effects = True

    def __init__(self, name: str, recorded: _RecordedTools) -> None:
        self.spec = ToolSpec(name, "", "{}")
        self._recorded = recorded

    def is_offered(self, work: Scope) -> bool:
        """As it was."""
        return True

    async def execute(self, call: ToolCall, work: Scope, effect_id: str) -> ToolOutcome:
        """The recorded outcome.

        Raises:
            UnavailableError: The journal has none.
        """
        return await self._recorded.execute(call, session_id="", effect_id=effect_id)


def _too_long(events: Sequence[Event]) -> set[str]:
    """The effect ids of the model calls that were refused for the length of the conversation."""
    refused, asked = set(), ""
    for event in events:
        if event.type is EventType.PLAN_MODEL_REQUEST:
            asked = event.data["effect_id"]
        elif event.type is EventType.CONTEXT_COMPACTED and event.data["because"] == TOO_LONG:
            refused.add(asked)
    return refused


def _asked_anew(events: Sequence[Event]) -> set[str]:
    """The effect ids under which the gateway knew another question, so that it was asked under a further one."""
    ids: dict[int, list[str]] = defaultdict(list)
    for event in events:
        if event.type is EventType.PLAN_MODEL_REQUEST:
            ids[event.data["step"]].append(event.data["effect_id"])
    return {effect_id for of_step in ids.values() for effect_id in of_step[:-1]}


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
        reasoning=reasoning_of(data),
    )


def _in_order(events: Sequence[Event]) -> list[Event]:
    """The events, with the outcomes of one turn in the order of its calls: whichever came first is chance."""
    ordered: list[Event] = []
    outcomes: list[Event] = []
    for event in events:
        # Who worked on the run is not what it did, and when a person came to say a word is chance, too.
        if event.type in (EventType.RUN_RESUMED, EventType.APPROVAL_DECIDED):
            continue
        if event.type in _OUTCOMES:
            outcomes.append(event)
            continue
        ordered += sorted(outcomes, key=lambda each: each.data["effect_id"])
        outcomes = []
        ordered.append(event)
    ordered += sorted(outcomes, key=lambda each: each.data["effect_id"])
    return [replace(event, seq=seq) for seq, event in enumerate(ordered, 1)]


def _came_from_outside(event: Event) -> bool:
    """Whether the run was ended by a person, or by the time of day, and not by what it did."""
    return event.type is EventType.PLAN_CANCELLED or event.data.get("status") == RunStatus.LIMIT_TIME


def _differing(recorded: Event, replayed: Event) -> set[str]:
    """The members of `data` that are not the same."""
    a, b = recorded.data, replayed.data
    ignored = _VOLATILE if "room" in a else _VOLATILE | _OF_THE_ROOM
    return {name for name in a.keys() | b.keys() if name not in ignored and a.get(name) != b.get(name)}
