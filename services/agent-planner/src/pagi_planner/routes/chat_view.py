"""A run as a chat shows it: what the agent thinks, what it says, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pagi_planner.domain.model import RunResult, RunStatus
from pagi_planner.domain.state.events import FINAL, Event, EventType
from pagi_planner.domain.watching.stream import (
    PHASE_OF_THOUGHTS,
    CutOff,
    Happened,
    Item,
    TextDelta,
    ThoughtDelta,
    phase_of,
)
from pagi_planner.routes.event_stream import event
from pagi_planner.schemas import RunBody

EVENTS = frozenset({"thinking", "content", "reset", "approval", "complete", "error", "done"})
# What an event tells about the agent's thoughts is cut to so much.
THOUGHT_CHARACTERS = 300


class ChatMessage(NamedTuple):
    """One thing to show; `kind` is phase, thinking, content, reset, approval, complete or error."""

    kind: str
    data: dict[str, Any]


class Chat:
    """Makes chat messages of the items of one run.

    What was said since the last `reset` is the answer, in the end as in the middle.

    Args:
        show_thinking: Whether to tell what happens beside the answer.
    """

    def __init__(self, *, show_thinking: bool) -> None:
        self._show_thinking = show_thinking
        self._step = 0
        self._phase = ""
        self._said: list[str] = []
        self.is_over = False

    def take(self, items: Sequence[Item]) -> Iterator[ChatMessage]:
        """The messages of some items."""
        for item in items:
            if isinstance(item, Happened):
                yield from self._happened(item.event)
            elif isinstance(item, TextDelta):
                if item.step != self._step:
                    # What was said before a tool call, or before a refinement, is not the answer.
                    yield from self._reset()
                    self._step = item.step
                self._said.append(item.text)
                yield ChatMessage("content", {"content": item.text})
            elif isinstance(item, ThoughtDelta):
                yield ChatMessage("thinking", {"phase": PHASE_OF_THOUGHTS, "step": item.step, "content": item.text})
            elif isinstance(item, CutOff):
                yield ChatMessage("error", {"error": item.reason, "last_event_id": str(item.position)})
            else:
                yield from self._reset()

    def end(self, run: RunResult) -> ChatMessage:
        """The last message: how the run ended."""
        if run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
            data: dict[str, Any] = {"error": run.error, "result": run.result}
            return ChatMessage("error", {**data, "status": run.status, **_ids(run)})
        return ChatMessage("complete", {**RunBody.from_domain(run).model_dump(mode="json"), **_statistics(run)})

    def _happened(self, happened: Event) -> Iterator[ChatMessage]:
        self.is_over = happened.type in FINAL
        phase = phase_of(happened)
        if phase and phase != self._phase:
            self._phase = phase
            yield ChatMessage("phase", {"phase": phase})
        if self._show_thinking and (thought := _thought(happened)):
            yield ChatMessage("thinking", {"phase": phase, "content": thought})
        if happened.type is EventType.APPROVAL_REQUESTED:
            told = {name: happened.data[name] for name in ("call_id", "tool", "input")}
            yield ChatMessage("approval", {"run_id": happened.run_id, **told})
        if happened.type is EventType.PLAN_END and (result := happened.data["result"]) != "".join(self._said):
            yield from self._reset()
            self._said.append(result)
            yield ChatMessage("content", {"content": result})

    def _reset(self) -> Iterator[ChatMessage]:
        if self._said:
            self._said.clear()
            yield ChatMessage("reset", {})


class ChatView:
    """Chat messages as server-sent events, closed by `done`.

    Args:
        chat: Makes the messages.
        settled: Gives the run when nobody works on it any more.
    """

    def __init__(self, chat: Chat, settled: Callable[[], Awaitable[RunResult]]) -> None:
        self._chat = chat
        self._settled = settled

    def show(self, items: Sequence[Item]) -> bytes:
        """The next events."""
        messages = self._chat.take(items)
        return b"".join(event(message.kind, message.data) for message in messages if message.kind != "phase")

    async def end(self) -> bytes:
        """How the run ended, and `done`."""
        last = self._chat.end(await self._settled()) if self._chat.is_over else None
        return (event(last.kind, last.data) if last else b"") + event("done", {})


def _ids(run: RunResult) -> dict[str, Any]:
    return {"run_id": run.run_id, "session_id": run.session_id, "trace_id": run.trace_id}


def _statistics(run: RunResult) -> dict[str, Any]:
    ended = run.ended_at or run.started_at
    return {"duration_ms": round((ended - run.started_at).total_seconds() * 1000, 3)}


def _thought(happened: Event) -> str:
    """What an event says of the agent's work, in words; empty where that is nothing."""
    data = happened.data
    match happened.type:
        case EventType.CONTEXT_LOADED:
            return f"{len(data['passages'])} passages and {len(data['tools'])} tools may help"
        case EventType.PLAN_MODEL_REQUEST:
            return f"Asking the model for step {data['step']}"
        case EventType.TOOL_CALL:
            return _cut(f"{data['tool']} {json.dumps(data['input'], ensure_ascii=False)}")
        case EventType.TOOL_RESULT:
            return _cut(f"{data['tool']}: {data['observation']}")
        case EventType.TOOL_ERROR:
            return _cut(f"{data['tool']} failed: {data['error']}")
        case EventType.APPROVAL_REQUESTED:
            return f"{data['tool']} waits for a person's word"
        case EventType.APPROVAL_DECIDED:
            return "A person has decided"
        case EventType.EVALUATION:
            return _cut(f"The answer scores {data['score']:g}. {data['feedback']}".strip())
        case EventType.PLAN_START:
            return "Gathering what is known"
        case _:
            return ""


def _cut(text: str) -> str:
    return text if len(text) <= THOUGHT_CHARACTERS else f"{text[: THOUGHT_CHARACTERS - 1]}…"
