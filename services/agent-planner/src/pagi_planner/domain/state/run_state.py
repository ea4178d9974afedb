"""A run is a fold over its events: this is the fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from pagi_planner.domain.context.conversation import Compacted, Conversation
from pagi_planner.domain.explicit_plan import ExplicitPlan
from pagi_planner.domain.model import (
    Approval,
    Decision,
    Exchange,
    Message,
    Mode,
    Role,
    RunResult,
    RunStatus,
    Step,
    ToolCall,
    Usage,
)
from pagi_planner.domain.reasoning import reasoning_of
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.state.exchange import turns_of
from pagi_planner.domain.state.facts import RunFacts
from pagi_planner.domain.state.phase import Phase as Phase
from pagi_planner.domain.state.sources import marked, sources_of

# How often a plan is made anew after its first making.
MOST_REVISIONS = 2
# Why a conversation was compacted: the provider would not have it.
TOO_LONG = "too_long"
# What a model reads of a call whose result was lost: every call must have one.
ORPHAN = '{"error": "the result of this call was lost; it may or may not have run"}'


@dataclass(slots=True)
class RunState(RunFacts):
    """Where a run stands; `apply` is the only way to change it."""

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
    def tenant(self) -> str:
        """Whose run it is; absent in rows of earlier versions."""
        return str(self.request.get("tenant", ""))

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
        return Phase.PLAN if self.needs_plan else Phase.ASK

    @property
    def needs_plan(self) -> bool:
        """Whether a plan has to be made, or made anew, before the model is asked for the next step."""
        if self.mode is not Mode.PLAN:
            return False
        return self.plan is None or (self.plan.has_failed and self.plan.revision <= MOST_REVISIONS)

    @property
    def used_s(self) -> float:
        """The time that the run has used up by its newest event, in seconds."""
        if self.started_at is None or self.last_at is None:
            return 0.0
        # A clock that was set back must not give the run more than it had.
        return max(0.0, (self.last_at - self.started_at).total_seconds() - self.paused_s)

    @property
    def best_answer(self) -> str:
        """The answer that was judged best; a refinement may have made it worse."""
        return self.best[1] or self.answer

    def unanswered(self) -> list[ToolCall]:
        """The calls of the turn that have no result yet."""
        return [call for call in self.open_calls.values() if call.id not in self.observations]

    def conversation(self) -> tuple[Message, ...]:
        """The messages for the next model call.

        The results of one turn follow in the order of its calls, whichever came first.
        """
        results = (
            Message(Role.TOOL, text=self.observations[call_id], tool_call_id=call_id)
            for call_id in self.open_calls
            if call_id in self.observations
        )
        return (*self.talk.to_send(self.plan.rendered if self.plan else ""), *results)

    def closed_talk(self) -> Conversation:
        """A copy of the conversation with the results of the turn in it, as `CONTEXT_COMPACTED` counts places."""
        talk = self.talk.copy()
        for call_id in self.open_calls:
            talk.add(Message(Role.TOOL, self.observations.get(call_id, ORPHAN), tool_call_id=call_id))
        return talk

    def result(self) -> RunResult:
        """The run as a caller reads it."""
        assert self.started_at is not None
        return RunResult(
            run_id=self.run_id,
            session_id=self.session_id,
            trace_id=self.trace_id,
            status=self.status,
            result=self.answer,
            model=self.model,
            steps=tuple(self.steps),
            sources=marked(self.sources, self.answer),
            usage=self.usage,
            degraded=tuple(self.degraded),
            approvals=tuple(self.approvals),
            plan=self.plan.steps if self.plan else (),
            error=self.error,
            started_at=self.started_at,
            ended_at=self.ended_at,
        )

    def exchange(self) -> Exchange:
        """What the run adds to its session's history."""
        assert self.started_at is not None
        turns = turns_of(self.prompt, self.steps, self.answer, self.started_at, self.ended_at or self.started_at)
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
        self.talk = Conversation([self._first(each) for each in event.data["messages"]])
        self.sources = sources_of(event.data["passages"])
        # Absent in the first rows that were ever written.
        self.tool_versions = event.data.get("tool_versions", {})
        self.mode = Mode(event.data.get("mode", Mode.REACT))
        self.material.note_context(event.data)
        self.intent = event.data.get("intent", {}).get("kind", "")
        self._note_degraded(event)

    def _first(self, data: dict[str, Any]) -> Message:
        """One of the first messages, with the images of the request where it shows them."""
        return Message(Role(data["role"]), data["text"], images=self.material.images(data.get("images", ())))

    def _file_read(self, event: Event) -> None:
        self.material.note_file(event.data, self.request["files"])

    def _plan_made(self, event: Event) -> None:
        self.plan = ExplicitPlan.of(event.data)

    def _model_call(self, event: Event) -> None:
        self.asides.note_call(event.data)

    def _model_result(self, event: Event) -> None:
        self.asides.note_result(event.data)
        self._use(event.data)

    def _compacted(self, event: Event) -> None:
        self._close_turn()
        self.talk.compact(Compacted.of(event.data))
        self.compactions += 1
        if event.data["because"] == TOO_LONG:
            # What was refused is asked again in another way, so under another effect id.
            self.is_too_long = True
            self.asked = ""

    def _model_request(self, event: Event) -> None:
        self._close_turn()
        self.asked = event.data["effect_id"]
        self.answer_tokens = event.data.get("answer_tokens")
        # A question that was asked anew, under another effect id, is no further step.
        self.model_calls = max(self.model_calls, event.data["step"])
        self.scale.note_request(event.data)
        self._note_degraded(event)

    def _model_response(self, event: Event) -> None:
        data = event.data
        calls = tuple(ToolCall(each["id"], each["name"], each["arguments"]) for each in data["tool_calls"])
        self.talk.add(Message(Role.ASSISTANT, data["text"], calls, reasoning=reasoning_of(data)))
        self.asked = ""
        self.is_too_long = False
        self.open_calls = {call.id: call for call in calls}
        self.is_answered = not calls
        self.is_judged = False
        self.model = data["model"]
        self._use(data)
        self.scale.note_response(data)
        self.answer = data["text"] or self.answer

    def _tool_result(self, event: Event) -> None:
        data = event.data
        self.observations[data["call_id"]] = data["observation"]
        if call := self.open_calls.get(data["call_id"]):
            self.progress.note(call, data["observation"], data["error"])
        if self.plan:
            self.plan = self.plan.after(data["tool"], failed=bool(data["error"]))
        self.material.note_result(data, len(self.steps))
        if used := data.get("usage"):
            self._use({**used, "effect_id": data["effect_id"]})
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
        self.evaluations += 1
        if event.data["score"] >= self.best[0]:
            self.best = (event.data["score"], self.answer)
        if feedback := event.data["feedback"]:
            self.refinements += 1
            self._close_turn()
            self.talk.add(Message(Role.USER, feedback))
            self.is_answered = False

    def _end(self, event: Event) -> None:
        self.status = RunStatus(event.data["status"])
        self.answer = event.data["result"]
        if self.plan and self.status is RunStatus.COMPLETED:
            self.plan = self.plan.answered()
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
        """Puts the results of the turn behind its calls, each of which has one from then on."""
        self.talk = self.closed_talk()
        self.open_calls = {}
        self.observations = {}
        self.intents = {}
        self.decisions = {}

    def _use(self, data: dict[str, Any]) -> None:
        # What was taken over from the run that this one is forked from was paid for there.
        if data["effect_id"].startswith(self.run_id):
            self.usage = self.usage + Usage(data["input_tokens"], data["output_tokens"], data["cost_usd"])

    def _note_degraded(self, event: Event) -> None:
        self.degraded += [name for name in event.data.get("degraded", ()) if name not in self.degraded]


_APPLY: dict[EventType, Callable[[RunState, Event], None]] = {
    EventType.PLAN_START: RunState._start,
    EventType.RUN_RESUMED: RunState._resumed,
    EventType.CONTEXT_LOADED: RunState._context,
    EventType.FILE_READ: RunState._file_read,
    EventType.PLAN_MADE: RunState._plan_made,
    EventType.MODEL_CALL: RunState._model_call,
    EventType.MODEL_RESULT: RunState._model_result,
    EventType.CONTEXT_COMPACTED: RunState._compacted,
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
