"""A run is a fold over its events: this is the fold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from pagi_planner.domain.events import Event, EventType
from pagi_planner.domain.model import (
    Approval,
    Decision,
    Exchange,
    Message,
    Role,
    RunResult,
    RunStatus,
    Source,
    Step,
    ToolCall,
    Turn,
    Usage,
)

# What one exchange may bring: memory takes 1,000 turns of a million characters, and a message has 16 MiB.
MOST_STEPS_REMEMBERED = 100
MOST_TOOL_CHARACTERS = 8_000
MOST_CHARACTERS = 1_000_000


class Phase(StrEnum):
    """What a run does next."""

    UNDERSTAND = "understand"
    ASK = "ask"
    ACT = "act"
    EVALUATE = "evaluate"
    ANSWER = "answer"
    # Nothing, until a person has decided on a call.
    WAIT = "wait"
    ENDED = "ended"


@dataclass(slots=True)
class RunState:
    """All that is known of a run; `apply` is the only way to change it.

    Attributes:
        asked: The effect id of a model call without an answer; empty where there is none.
        intents: The calls of the turn that were begun, by id of the call.
        waiting: The calls of the turn that a person has to decide on.
        decisions: A person's word, by id of the call.
        approvals: Every call of the run that a person was asked about.
        repeats: How often the model has called for the same thing.
        paused_s: Time spent waiting for people, and for a planner to take the run up again.
    """

    run_id: str
    seq: int = 0
    trace_id: str = ""
    session_id: str = ""
    prompt: str = ""
    persona: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    status: RunStatus = RunStatus.RUNNING
    model: str = ""
    answer: str = ""
    error: str = ""
    error_type: str = ""
    error_field: str = ""
    usage: Usage = field(default_factory=Usage)
    model_calls: int = 0
    refinements: int = 0
    messages: list[Message] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    tool_versions: dict[str, str] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)
    open_calls: dict[str, ToolCall] = field(default_factory=dict)
    observations: dict[str, str] = field(default_factory=dict)
    asked: str = ""
    intents: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, ToolCall] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    approvals: list[Approval] = field(default_factory=list)
    repeats: Counter[tuple[str, str]] = field(default_factory=Counter)
    is_understood: bool = False
    is_answered: bool = False
    is_judged: bool = False
    paused_s: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_at: datetime | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunState:
        """Folds the events of one run, in order; at least one."""
        state: RunState | None = None
        for event in events:
            state = state or cls(event.run_id)
            state.apply(event)
        assert state is not None, "a run has at least one event"
        return state

    def apply(self, event: Event) -> None:
        """Takes in the next event."""
        self.seq = event.seq
        _APPLY[event.type](self, event)
        self.last_at = event.timestamp

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.status not in (RunStatus.RUNNING, RunStatus.WAITING_APPROVAL)

    @property
    def phase(self) -> Phase:
        """What comes next: all that a process needs to know to go on with a run that another began."""
        if self.is_final:
            return Phase.ENDED
        if not self.is_understood:
            return Phase.UNDERSTAND
        if self.asked:
            return Phase.ASK
        if unanswered := self.unanswered():
            return Phase.WAIT if all(call.id in self.waiting for call in unanswered) else Phase.ACT
        if self.is_answered:
            return Phase.ANSWER if self.is_judged else Phase.EVALUATE
        return Phase.ASK

    @property
    def used_s(self) -> float:
        """The time that the run has used up by its newest event, in seconds."""
        if self.started_at is None or self.last_at is None:
            return 0.0
        # A clock that was set back must not give the run more than it had.
        return max(0.0, (self.last_at - self.started_at).total_seconds() - self.paused_s)

    def unanswered(self) -> list[ToolCall]:
        """The calls of the turn that have no result yet."""
        return [call for call in self.open_calls.values() if call.id not in self.observations]

    def conversation(self) -> tuple[Message, ...]:
        """The messages for the next model call.

        The results of one turn follow in the order of its calls, whichever came first.
        """
        return tuple(self.messages) + tuple(
            Message(Role.TOOL, text=self.observations[call_id], tool_call_id=call_id)
            for call_id in self.open_calls
            if call_id in self.observations
        )

    def result(self) -> RunResult:
        """The run as a caller reads it."""
        assert self.started_at is not None
        cited = [replace(source, cited=source.source in self.answer) for source in self.sources]
        return RunResult(
            run_id=self.run_id,
            session_id=self.session_id,
            trace_id=self.trace_id,
            status=self.status,
            result=self.answer,
            model=self.model,
            steps=tuple(self.steps),
            sources=tuple(cited),
            usage=self.usage,
            degraded=tuple(self.degraded),
            approvals=tuple(self.approvals),
            error=self.error,
            started_at=self.started_at,
            ended_at=self.ended_at,
        )

    def exchange(self) -> Exchange:
        """What the run adds to its session's history: of the tool calls the last, each cut to what a reader needs."""
        assert self.started_at is not None
        end = self.ended_at or self.started_at
        tools = [
            Turn(role, _cut(text, MOST_TOOL_CHARACTERS), step.timestamp)
            for step in self.steps[-MOST_STEPS_REMEMBERED:]
            for role, text in (
                ("tool-plan", f"{step.tool} {_text(step.input)}"),
                ("tool-output", step.error or _text(step.output)),
            )
        ]
        asked = Turn("user", _cut(self.prompt, MOST_CHARACTERS), self.started_at)
        turns = (asked, *tools, Turn("assistant", _cut(self.answer, MOST_CHARACTERS), end))
        return Exchange(self.session_id, self.run_id, self.persona, turns)

    def _start(self, event: Event) -> None:
        self.request = event.data
        self.trace_id = event.trace_id
        self.session_id = event.session_id
        self.prompt = event.data["prompt"]
        self.persona = event.data["persona"]
        self.model = event.data["model"]
        self.started_at = event.timestamp

    def _context(self, event: Event) -> None:
        self.is_understood = True
        self.tools = event.data["tools"]
        self.messages = [Message(Role(each["role"]), each["text"]) for each in event.data["messages"]]
        self.sources = [
            Source(each["source"], each["knowledge_base"], tuple(each["headings"]), each["score"], cited=False)
            for each in event.data["passages"]
        ]
        # Absent in the first rows that were ever written.
        self.tool_versions = event.data.get("tool_versions", {})
        self._note_degraded(event)

    def _model_request(self, event: Event) -> None:
        self._close_turn()
        self.asked = event.data["effect_id"]
        self.model_calls += 1
        self._note_degraded(event)

    def _model_response(self, event: Event) -> None:
        data = event.data
        calls = tuple(ToolCall(each["id"], each["name"], each["arguments"]) for each in data["tool_calls"])
        self.messages.append(Message(Role.ASSISTANT, data["text"], calls))
        self.asked = ""
        self.open_calls = {call.id: call for call in calls}
        self.repeats.update((call.name, call.arguments_json) for call in calls)
        self.is_answered = not calls
        self.is_judged = False
        self.model = data["model"]
        # What was taken over from the run that this one is forked from was paid for there.
        if data["effect_id"].startswith(self.run_id):
            self.usage = self.usage + Usage(data["input_tokens"], data["output_tokens"], data["cost_usd"])
        self.answer = data["text"] or self.answer

    def _tool_result(self, event: Event) -> None:
        data = event.data
        self.observations[data["call_id"]] = data["observation"]
        self.steps.append(
            Step(
                step=len(self.steps) + 1,
                tool=data["tool"],
                input=data["input"],
                output=data["output"],
                error=data["error"] or None,
                timestamp=event.timestamp,
            )
        )
        self._note_degraded(event)

    def _evaluation(self, event: Event) -> None:
        self.is_judged = True
        if feedback := event.data["feedback"]:
            self.refinements += 1
            self._close_turn()
            self.messages.append(Message(Role.USER, feedback))
            self.is_answered = False

    def _end(self, event: Event) -> None:
        self.status = RunStatus(event.data["status"])
        self.answer = event.data["result"]
        self.ended_at = event.timestamp

    def _fail(self, event: Event) -> None:
        self.status = RunStatus.FAILED
        self.error = event.data["error"]
        self.error_type = event.data["error_type"]
        # Absent in the first rows that were ever written.
        self.error_field = event.data.get("field", "")
        self.ended_at = event.timestamp

    def _cancel(self, event: Event) -> None:
        self.status = RunStatus.CANCELLED
        self.error = event.data["reason"]
        # Absent in the first rows that were ever written.
        self.answer = event.data.get("result", self.answer)
        self.ended_at = event.timestamp

    def _tool_call(self, event: Event) -> None:
        self.intents[event.data["call_id"]] = event.data["effect_id"]

    def _resumed(self, event: Event) -> None:
        # What a dead planner cost is not the run's to pay.
        self.paused_s += self._since_last(event)

    def _approval_requested(self, event: Event) -> None:
        call_id = event.data["call_id"]
        self.waiting[call_id] = self.open_calls[call_id]
        self.approvals.append(Approval(call_id, event.data["tool"], event.data["input"], event.timestamp))
        self.status = RunStatus.WAITING_APPROVAL

    def _approval_decided(self, event: Event) -> None:
        data = event.data
        self.waiting.pop(data["call_id"], None)
        decision = Decision(data["approved"], data["reason"], data["arguments"])
        self.decisions[data["call_id"]] = decision
        self.approvals = [
            replace(each, decision=decision, decided_at=event.timestamp) if each.waits_as(data["call_id"]) else each
            for each in self.approvals
        ]
        self.status = RunStatus.WAITING_APPROVAL if self.waiting else RunStatus.RUNNING
        self.paused_s += self._since_last(event)

    def _since_last(self, event: Event) -> float:
        """Seconds since the event before."""
        return max(0.0, (event.timestamp - self.last_at).total_seconds()) if self.last_at else 0.0

    def _close_turn(self) -> None:
        """Puts the results of the turn behind its calls."""
        self.messages = list(self.conversation())
        self.open_calls = {}
        self.observations = {}
        self.intents = {}
        self.decisions = {}

    def _note_degraded(self, event: Event) -> None:
        self.degraded += [name for name in event.data.get("degraded", ()) if name not in self.degraded]


_APPLY: dict[EventType, Callable[[RunState, Event], None]] = {
    EventType.PLAN_START: RunState._start,
    EventType.RUN_RESUMED: RunState._resumed,
    EventType.CONTEXT_LOADED: RunState._context,
    EventType.PLAN_MODEL_REQUEST: RunState._model_request,
    EventType.PLAN_MODEL_RESPONSE: RunState._model_response,
    EventType.TOOL_CALL: RunState._tool_call,
    EventType.TOOL_RESULT: RunState._tool_result,
    EventType.TOOL_ERROR: RunState._tool_result,
    EventType.EVALUATION: RunState._evaluation,
    EventType.APPROVAL_REQUESTED: RunState._approval_requested,
    EventType.APPROVAL_DECIDED: RunState._approval_decided,
    EventType.PLAN_END: RunState._end,
    EventType.PLAN_ERROR: RunState._fail,
    EventType.PLAN_CANCELLED: RunState._cancel,
}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
