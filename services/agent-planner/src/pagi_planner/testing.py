"""Fakes for the ports: scripted, in memory, or away at will."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pagi_chassis.errors import NotFoundError, PagiError

from pagi_planner.domain.errors import UnknownPersonaError
from pagi_planner.domain.model import (
    Context,
    Effects,
    Exchange,
    FileList,
    ModelAnswer,
    ModelRequest,
    Passage,
    RunRequest,
    RunStatus,
    RunSummary,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    Turn,
    Usage,
    WorkspaceFile,
)
from pagi_planner.domain.ownership import FIRST_EPOCH, Claim, Order
from pagi_planner.domain.ports import Journal, Words
from pagi_planner.domain.state.events import FINAL, Event, EventType


def call(name: str, arguments: Mapping[str, Any] | str, call_id: str = "") -> ToolCall:
    """A tool call as a model makes it; arguments given as text stay as they are."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(call_id or f"call-{name}-{text}", name, text)


def calling(*calls: ToolCall, text: str = "", cost_usd: float | None = None) -> ModelAnswer:
    """An answer that calls tools."""
    return ModelAnswer(text, calls, Usage(10, 5, cost_usd), "tool_calls", "scripted", "scripted")


def saying(text: str, cost_usd: float | None = None) -> ModelAnswer:
    """An answer in words."""
    return ModelAnswer(text, (), Usage(10, 5, cost_usd), "stop", "scripted", "scripted")


class ScriptedModel:
    """Gives the answers in order and keeps what it was asked; an error in the script is raised."""

    def __init__(self, *script: ModelAnswer | Exception, repeat_last: bool = False) -> None:
        self._script = list(script)
        self._repeat_last = repeat_last
        self.requests: list[ModelRequest] = []

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """The next line of the script."""
        self.requests.append(request)
        line = self._script[0] if self._repeat_last and len(self._script) == 1 else self._script.pop(0)
        if isinstance(line, Exception):
            raise line
        return line


class SpeakingModel(ScriptedModel):
    """A scripted model that can be heard: it says its texts in pieces, and waits for `pause` before each.

    Args:
        script: As of `ScriptedModel`.
        size: Characters of a piece.
        pause: Called before each piece; None: other work gets a turn.
        thoughts: What it thinks on the way to each answer, in pieces of the same size.
    """

    def __init__(
        self,
        *script: ModelAnswer | Exception,
        size: int = 3,
        pause: Callable[[], Awaitable[None]] | None = None,
        thoughts: str = "",
    ) -> None:
        super().__init__(*script)
        self._size = size
        self._pause = pause or _turn
        self._thoughts = thoughts
        self.heard = 0

    async def stream(self, request: ModelRequest, words: Words) -> ModelAnswer:
        """Says the next line of the script."""
        self.heard += 1
        answer = await self.answer(request)
        for start in range(0, len(self._thoughts), self._size):
            await self._pause()
            words.think(self._thoughts[start : start + self._size])
        for start in range(0, len(answer.text), self._size):
            await self._pause()
            words.add(answer.text[start : start + self._size])
        return answer


async def _turn() -> None:
    await asyncio.sleep(0)


class WaitingModel:
    """Does not answer until it is told to."""

    def __init__(self, answer: ModelAnswer) -> None:
        self._answer = answer
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """Waits for `go`."""
        self.asked.set()
        await self.go.wait()
        return self._answer


@dataclass
class InMemoryMemory:
    """Keeps exchanges by session, gives the passages that it was made with; `away` makes every call fail."""

    soul: str = "You are a test."
    passages: Sequence[Passage] = ()
    personas: frozenset[str] = frozenset({""})
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    away: PagiError | None = None

    async def recall(self, request: RunRequest) -> Context:
        """The turns of the session so far, and the passages."""
        self._fail_if_away()
        if request.persona not in self.personas:
            raise UnknownPersonaError(f"there is no persona {request.persona!r}", field="persona")
        turns: list[Turn] = []
        for exchange in self.exchanges.values():
            if exchange.session_id == request.session_id:
                turns += exchange.turns
        return Context(self.soul, tuple(turns), tuple(self.passages))

    async def remember(self, exchange: Exchange) -> None:
        """Stores the exchange; a repeat changes nothing."""
        self._fail_if_away()
        self.exchanges.setdefault(exchange.run_id, exchange)

    def _fail_if_away(self) -> None:
        if self.away:
            raise self.away


Behaviour = Callable[[dict[str, Any]], ToolOutcome | Exception]


class RecordingTools:
    """Tools that behave as a test says; keeps what was executed. `away` makes the list of them fail."""

    know_effects = False

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour],
        *,
        effects: Effects = Effects.READ_ONLY,
        need_approval: Collection[str] = (),
    ) -> None:
        self._behaviours = behaviours
        self._effects = effects
        self._need_approval = need_approval
        self.executed: list[tuple[ToolCall, str]] = []
        self.away: PagiError | None = None

    async def specs(self) -> tuple[ToolSpec, ...]:
        """One for each function."""
        if self.away:
            raise self.away
        return tuple(
            ToolSpec(name, f"the tool {name}", "{}", self._effects, requires_approval=name in self._need_approval)
            for name in self._behaviours
        )

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """Calls the function; an error that it returns is raised."""
        if call.name not in self._behaviours:
            raise NotFoundError(f"there is no tool named {call.name!r}")
        self.executed.append((call, effect_id))
        outcome = self._behaviours[call.name](json.loads(call.arguments_json))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class InMemoryFiles:
    """Files by session and path; `away` makes both methods fail."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, str], bytes] = {}
        self.away: PagiError | None = None
        self.open_now = 0

    async def list(self, session_id: str, path: str = "") -> FileList:
        """What begins with the path."""
        if self.away:
            raise self.away
        files = [
            WorkspaceFile(name, "text/plain", len(content))
            for (session, name), content in sorted(self.contents.items())
            if session == session_id and name.startswith(path)
        ]
        return FileList(tuple(files), sum(file.size_bytes for file in files), 1_000_000)

    @asynccontextmanager
    async def open(self, session_id: str, path: str) -> AsyncIterator[tuple[WorkspaceFile, AsyncIterator[bytes]]]:
        """The content, two bytes at a time."""
        if self.away:
            raise self.away
        if (session_id, path) not in self.contents:
            raise NotFoundError(f"{path!r} does not exist in the workspace")
        content = self.contents[session_id, path]
        self.open_now += 1
        try:
            yield WorkspaceFile(path, "text/plain", len(content)), _in_pairs(content)
        finally:
            self.open_now -= 1


async def _in_pairs(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 2):
        await asyncio.sleep(0)
        yield content[start : start + 2]


class RecordingNotifier:
    """Keeps what it was told; `away` makes it fail."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.away: PagiError | None = None

    async def notify(self, events: Sequence[Event]) -> Sequence[str]:
        """Records the events."""
        if self.away:
            raise self.away
        self.told += events
        return ()


class LoneStore:
    """The store of a planner that is alone with a journal: every run is its own, and none is listed."""

    owner = "alone"
    last_position = 0

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def runs(
        self, *, limit: int, before: str = "", session_id: str = "", status: RunStatus | None = None
    ) -> Sequence[RunSummary]:
        """None."""
        return ()

    async def unfinished(self) -> Sequence[str]:
        """None."""
        return ()

    async def claim(self, run_ids: Sequence[str]) -> Sequence[Claim]:
        """Those that have not ended."""
        claims = []
        for run_id in run_ids:
            events = await self._journal.events(run_id)
            if events and events[-1].type not in FINAL:
                last = events[-1]
                claims.append(Claim(run_id, FIRST_EPOCH, last.session_id, last.trace_id, last.seq, self.owner))
        return claims

    async def release(self, run_id: str, epoch: int) -> None:
        """Nothing to do."""

    async def lapsed(self) -> Sequence[str]:
        """None."""
        return ()

    async def renew(self) -> None:
        """Nothing to do."""

    async def hand_on(self, order: Order) -> None:
        """There is nobody."""

    async def orders(self) -> Sequence[Order]:
        """None."""
        return ()

    async def wait_for_orders(self, timeout_s: float) -> None:
        """Waits out the time."""
        await asyncio.sleep(timeout_s)

    async def wait(self, position: int) -> None:
        """Nothing ever comes."""
        await asyncio.Event().wait()

    async def after(self, position: int, types: Collection[EventType], limit: int) -> Sequence[tuple[int, Event]]:
        """None."""
        return ()

    async def cursor(self, reader: str) -> int:
        """At the beginning."""
        return 0

    def advance(self, reader: str, position: int) -> None:
        """Forgets."""

    async def turn(self, reader: str) -> None:
        """Is always this one's."""

    def has_turn(self, reader: str) -> bool:
        """Always."""
        return True


class SteppingClock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The next second."""
        self._now += timedelta(seconds=1)
        return self._now


class ScriptedArchive:
    """Gives the answers that it was made with by RPC, and keeps what it was asked; an error is raised."""

    def __init__(self, answers: Mapping[str, dict[str, Any] | Exception], lines: Sequence[str] = ()) -> None:
        self._answers = answers
        self._lines = lines
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, rpc: str, **fields: Any) -> dict[str, Any]:
        """The answer."""
        self.asked.append((rpc, fields))
        answer = self._answers[rpc]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def export(self, session_id: str) -> AsyncIterator[str]:
        """The lines."""
        await self.ask("ExportSessions", session_id=session_id)
        for line in self._lines:
            yield line
