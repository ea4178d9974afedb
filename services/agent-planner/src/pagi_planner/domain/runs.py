"""The runs of this process: begun once, taken up where a process died, bounded in number, decided on, cancelled."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, PagiError

from pagi_planner.domain.agent import Agent, new_run_id, session_id_of
from pagi_planner.domain.begun_run import BegunRun, is_of, run_id_of
from pagi_planner.domain.errors import (
    IdempotencyConflictError,
    JournalError,
    NotWaitingError,
    OverloadedError,
    RunEndedError,
    RunNotFoundError,
)
from pagi_planner.domain.events import FINAL
from pagi_planner.domain.fork import Change, fork
from pagi_planner.domain.model import Decision, RunRequest, RunResult, RunSummary
from pagi_planner.domain.ports import RunIndex
from pagi_planner.domain.recent import RecentIds
from pagi_planner.domain.run import Run
from pagi_planner.domain.state import Phase, RunState
from pagi_planner.domain.stream import Position
from pagi_planner.domain.timeline import Span, timeline
from pagi_planner.domain.watcher import Watcher

log = logging.getLogger(__name__)

# A client that is turned away may try again after about the time of a short run.
RETRY_AFTER_S = 1.0
# A run whose journal could not be written is closed when it can be; the first try comes after this.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, newest first; `next` goes on after them and is empty at the end."""

    runs: Sequence[RunSummary]
    next: str


@dataclass(frozen=True, slots=True)
class _Active:
    request: RunRequest
    run: Run
    task: asyncio.Task[RunResult]


class Runs:
    """Starts runs and answers for them.

    Args:
        agent: Does the work.
        index: Finds runs of the past.
        max_concurrent: Runs in progress at once; more are refused, not queued. Runs that wait for a person are not in
            progress.
    """

    def __init__(self, agent: Agent, index: RunIndex, *, max_concurrent: int) -> None:
        self._agent = agent
        self._index = index
        self._max_concurrent = max_concurrent
        self._active: dict[str, _Active] = {}
        self._ended = RecentIds()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """How many runs are in progress."""
        return len(self._active)

    async def begin(self, request: RunRequest, *, idempotency_key: str = "") -> BegunRun:
        """Begins a run, or finds the one that the same key has begun.

        Args:
            request: What to do.
            idempotency_key: Empty: always a new run.

        Raises:
            OverloadedError: Too many runs are in progress.
            IdempotencyConflictError: The key belongs to another request.
            JournalError: Whether the key was used before cannot be read.
        """
        run_id = run_id_of(idempotency_key) if idempotency_key else new_run_id()
        request = replace(request, session_id=request.session_id or session_id_of(run_id))
        if idempotency_key and (known := await self._known(run_id, request)):
            return known
        self._admit()
        run = self._agent.open(request, run_id=run_id)
        return BegunRun(run.state, run, self._drive(request, run))

    async def get(self, run_id: str) -> RunResult:
        """A run, finished or not.

        Raises:
            RunNotFoundError: There is none.
        """
        return (await self._existing(run_id)).result()

    async def find(self, *, limit: int, before: str = "", session_id: str = "") -> RunPage:
        """The newest runs, newest first.

        Args:
            limit: At most this many.
            before: `next` of the page before; empty: the first page.
            session_id: Only of this session; empty: of all.

        Raises:
            InvalidArgumentError: There is no run `before`.
        """
        found = await self._index.runs(limit=limit + 1, before=before, session_id=session_id)
        if before and not found and not await self._agent.journal.events(before):
            raise InvalidArgumentError(f"before: there is no run {before!r}", field="before")
        page = found[:limit]
        return RunPage(page, page[-1].run_id if len(found) > limit else "")

    async def cancel(self, run_id: str, reason: str = "it was cancelled") -> RunResult:
        """Stops a run, its model call and its tools. Nothing of it starts after the return.

        Returns:
            The run as it ended: an end that was reached before the cancellation stays.

        Raises:
            RunNotFoundError: There is none.
        """
        if active := self._active.get(run_id):
            active.run.cancelled_because = reason
            active.task.cancel()
            await asyncio.wait([active.task])
            return active.run.state.result()
        state = await self._existing(run_id)
        if active := self._active.get(run_id):
            # It was taken up during the look.
            return await self.cancel(run_id, reason)
        run = self._agent.reopen(state)
        await run.cancel(reason)
        return run.state.result()

    async def decide(self, run_id: str, call_id: str, decision: Decision) -> RunResult:
        """Takes a person's word on a tool call; the run goes on with what it allows.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: The run has ended.
            NotWaitingError: The call does not wait for a decision, or has been decided on.
        """
        if not (active := self._active.get(run_id)):
            state = await self._existing(run_id)
            # It may have been taken up during the look.
            active = self._active.get(run_id)
        run = active.run if active else self._agent.reopen(state)
        if run.state.is_final:
            raise RunEndedError(f"the run has ended: it is {run.state.status}")
        if call_id not in run.state.waiting:
            waiting = ", ".join(run.state.waiting) or "none"
            raise NotWaitingError(f"the call {call_id!r} waits for no decision; those that wait: {waiting}")
        run.decide(call_id, decision)
        await run.sync()
        if run_id not in self._active and run.state.phase not in (Phase.WAIT, Phase.ENDED):
            self._drive(self._agent.request_of(run.state), run)
        return run.state.result()

    async def fork(self, run_id: str, step: int, change: Change) -> BegunRun:
        """Begins a run with the journal of another up to a step; see `fork`. What tools did until then is not undone.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidArgumentError: It has no such step, or does not go on from it.
            OverloadedError: Too many runs are in progress.
        """
        if not (events := await self._agent.journal.events(run_id)):
            raise RunNotFoundError(f"there is no run {run_id!r}")
        self._admit()
        trace_id = correlation.current().trace_id or uuid.uuid4().hex
        kept = fork(events, step, change, run_id=new_run_id(), trace_id=trace_id)
        for event in kept:
            self._agent.journal.append(event)
        run = self._agent.reopen(RunState.of(kept))
        return BegunRun(run.state, run, self._drive(self._agent.request_of(run.state), run))

    async def timeline(self, run_id: str) -> list[Span]:
        """What a run did, as spans of time.

        Raises:
            RunNotFoundError: There is none.
        """
        if not (events := await self._agent.journal.events(run_id)):
            raise RunNotFoundError(f"there is no run {run_id!r}")
        return timeline(events)

    def follow(self, begun: BegunRun) -> Watcher:
        """Watches a run that was begun just now, or before, from its first event on. To be used as a context."""
        is_new = begun.task is not None and begun.state.seq == 0
        return self._agent.parts.feed.watch(begun.run_id, None if is_new else Position())

    async def watch(self, run_id: str, after: Position) -> Watcher:
        """Watches a run, whether it has ended, waits, or is in progress here or elsewhere. To be used as a context.

        Args:
            run_id: Which run.
            after: What was seen before.

        Raises:
            RunNotFoundError: There is none.
            InvalidArgumentError: It has not come as far as `after` says.
        """
        newest = await self._agent.journal.events(run_id, after=max(after.seq, 1) - 1, limit=1)
        if not newest and not (run_id in self._active and after.seq == 0):
            await self._existing(run_id)
            raise InvalidArgumentError(f"the run has no event {after.seq} yet", field="Last-Event-ID")
        watcher = self._agent.parts.feed.watch(run_id, after)
        if after.seq and newest[0].type in FINAL:
            # All of it was seen.
            watcher.close()
        return watcher

    async def settled(self, run_id: str) -> RunResult:
        """A run as it stands when nobody works on it here: what its caller gets, its history stored.

        Raises:
            RunNotFoundError: There is none.
        """
        if active := self._active.get(run_id):
            await asyncio.wait([active.task])
            return active.run.state.result()
        return await self.get(run_id)

    def send_watchers_away(self, reason: str) -> None:
        """Ends every watcher, now and from now on."""
        self._agent.parts.feed.close(reason)

    async def recover(self) -> int:
        """Takes up the runs that a dead process has left; they go on where they were cut off. Returns how many."""
        recovered = 0
        for run_id in await self._index.unfinished():
            try:
                state = await self._state(run_id)
                if state and run_id not in self._active and state.phase not in (Phase.WAIT, Phase.ENDED):
                    self._drive(self._agent.request_of(state), self._agent.reopen(state))
                    recovered += 1
            except Exception:
                # One that cannot be read, written by a newer version say, must not keep the planner from its work.
                log.exception("%s was interrupted and cannot be taken up", run_id)
        return recovered

    async def stop(self, grace_s: float) -> None:
        """Lets the runs in progress end; those that take longer go on after the next start."""
        for closing in self._closing:
            closing.cancel()
        tasks = {active.task: active.run for active in self._active.values()}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            tasks[task].is_suspended = True
            task.cancel()
        if late:
            log.warning("%d runs are suspended because the planner stops; they go on after its next start", len(late))
            await asyncio.wait(late)

    async def _known(self, run_id: str, request: RunRequest) -> BegunRun | None:
        """The run that a key has begun before; None where there is none."""
        if run_id not in self._active:
            state = await self._state(run_id)
            if run_id in self._ended and not (state and state.is_final):
                # It ended after the look at the journal; its end was durable before it left.
                state = await self._state(run_id)
            # It may have begun during the look.
            if run_id not in self._active:
                return self._repeated(state, request) if state else None
        active = self._active[run_id]
        if active.request != request:
            raise _conflict()
        return BegunRun(active.run.state, active.run, active.task)

    def _repeated(self, state: RunState, request: RunRequest) -> BegunRun:
        """The run that is in the journal and not in progress here."""
        if not is_of(state, request):
            raise _conflict()
        if state.phase in (Phase.WAIT, Phase.ENDED):
            return BegunRun(state)
        run = self._agent.reopen(state)
        return BegunRun(state, run, self._drive(request, run))

    async def _existing(self, run_id: str) -> RunState:
        if (state := await self._state(run_id)) is None:
            raise RunNotFoundError(f"there is no run {run_id!r}")
        return state

    async def _state(self, run_id: str) -> RunState | None:
        events = await self._agent.journal.events(run_id)
        return RunState.of(events) if events else None

    def _admit(self) -> None:
        if self.active >= self._max_concurrent:
            raise OverloadedError(
                f"{self._max_concurrent} runs are in progress, which is the most (MAX_CONCURRENT_REQUESTS)",
                retry_after_s=RETRY_AFTER_S,
            )

    def _drive(self, request: RunRequest, run: Run) -> asyncio.Task[RunResult]:
        run_id = run.state.run_id
        task = asyncio.create_task(run.drive(), name=run_id)
        self._active[run_id] = _Active(request, run, task)
        task.add_done_callback(lambda _: self._left(run_id))
        return task

    def _left(self, run_id: str) -> None:
        """A run has ended, waits for a person, or was ended by a fault."""
        active = self._active.pop(run_id)
        self._ended.add(run_id)
        if active.task.cancelled():
            return
        if not (error := active.task.exception()):
            # Decided on while it was on its way to wait.
            if active.run.state.phase not in (Phase.WAIT, Phase.ENDED):
                self._drive(active.request, active.run)
            return
        if not active.run.state.is_final:
            self._agent.parts.feed.break_off(run_id, getattr(error, "message", "internal error"))
        # Said here too, since the caller may have left.
        if not isinstance(error, PagiError):
            log.error("%s failed", run_id, exc_info=error)
        if isinstance(error, JournalError):
            log.error("%s was ended: %s", run_id, error.message)
            closing = asyncio.create_task(self._close_lost(run_id), name=f"close {run_id}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close_lost(self, run_id: str) -> None:
        """Ends a run whose journal could not be written, as soon as it can be: none stays `running`."""
        pause = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause)
            try:
                state = await self._state(run_id)
                if state and not state.is_final:
                    lost = JournalError("the journal could not be written in the middle of this run")
                    await self._agent.reopen(state).fail(lost)
            except JournalError:
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                return


def _conflict() -> IdempotencyConflictError:
    return IdempotencyConflictError(
        "Idempotency-Key was used before with another request; use a new key", field="Idempotency-Key"
    )
