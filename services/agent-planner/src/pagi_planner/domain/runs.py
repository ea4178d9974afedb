"""The runs of this process: started once, bounded in number, looked up by id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pagi_chassis.errors import InvalidArgumentError, PagiError

from pagi_planner.domain import records
from pagi_planner.domain.agent import Agent, new_run_id, session_id_of
from pagi_planner.domain.begun_run import BegunRun, is_of, run_id_of
from pagi_planner.domain.errors import (
    IdempotencyConflictError,
    JournalError,
    OverloadedError,
    RunInterruptedError,
    RunNotFoundError,
)
from pagi_planner.domain.events import Event, EventType
from pagi_planner.domain.model import RunRequest, RunResult, RunSummary
from pagi_planner.domain.ports import RunIndex
from pagi_planner.domain.recent import RecentIds
from pagi_planner.domain.state import RunState

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
    task: asyncio.Task[RunResult]


class Runs:
    """Starts runs and answers for them.

    Args:
        agent: Does the work.
        index: Finds runs of the past.
        max_concurrent: Runs in progress at once; more are refused, not queued.
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
            RunInterruptedError: The run of this key was cut off; it has no result and gets none.
            JournalError: Whether the key was used before cannot be read.
        """
        run_id = run_id_of(idempotency_key) if idempotency_key else new_run_id()
        request = replace(request, session_id=request.session_id or session_id_of(run_id))
        if idempotency_key and (known := await self._known(run_id, request)):
            return known
        if self.active >= self._max_concurrent:
            raise OverloadedError(
                f"{self._max_concurrent} runs are in progress, which is the most (MAX_CONCURRENT_REQUESTS)",
                retry_after_s=RETRY_AFTER_S,
            )
        task = asyncio.create_task(self._agent.run(request, run_id=run_id), name=run_id)
        self._active[run_id] = _Active(request, task)
        task.add_done_callback(lambda _: self._finished(run_id))
        return BegunRun(run_id, task)

    async def get(self, run_id: str) -> RunResult:
        """A run, finished or not.

        Raises:
            RunNotFoundError: There is none.
        """
        if (state := await self._state(run_id)) is None:
            raise RunNotFoundError(f"there is no run {run_id!r}")
        return state.result()

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

    async def close_interrupted(self) -> int:
        """Ends the runs that a dead process has left, as failed. Returns how many."""
        run_ids = await self._index.unfinished()
        for run_id in run_ids:
            try:
                await self._close(run_id, RunInterruptedError("the planner stopped in the middle of this run"))
            except Exception:
                # One that cannot be read, written by a newer version say, must not keep the planner from its work.
                log.exception("%s was interrupted and cannot be closed", run_id)
        return len(run_ids)

    async def stop(self, grace_s: float) -> None:
        """Lets the runs in progress end; those that take longer are cancelled, and recorded as such."""
        for closing in self._closing:
            closing.cancel()
        tasks = [active.task for active in self._active.values()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("%d runs were cancelled because the planner stops", len(late))
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
                return _repeated(state, request) if state else None
        active = self._active[run_id]
        if active.request != request:
            raise _conflict()
        return BegunRun(run_id, active.task)

    async def _state(self, run_id: str) -> RunState | None:
        events = await self._agent.journal.events(run_id)
        return RunState.of(events) if events else None

    def _finished(self, run_id: str) -> None:
        task = self._active.pop(run_id).task
        self._ended.add(run_id)
        if task.cancelled() or not (error := task.exception()):
            return
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
                await self._close(run_id, JournalError("the journal could not be written in the middle of this run"))
            except JournalError:
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                return

    async def _close(self, run_id: str, reason: PagiError) -> None:
        """Appends the end that a run could not write itself."""
        state = await self._state(run_id)
        if state is None or state.is_final:
            return
        self._agent.journal.append(
            Event(
                run_id=run_id,
                seq=state.seq + 1,
                type=EventType.PLAN_ERROR,
                timestamp=self._agent.clock.now(),
                trace_id=state.trace_id,
                session_id=state.session_id,
                data=records.failure(type(reason).__name__, reason.message),
            )
        )
        await self._agent.journal.sync(run_id)


def _repeated(state: RunState, request: RunRequest) -> BegunRun:
    """The run that is in the journal and not in progress here."""
    if not is_of(state, request):
        raise _conflict()
    if not state.is_final:
        raise RunInterruptedError("the run of this key was cut off and has no result; use a new key")
    return BegunRun(state.run_id, state)


def _conflict() -> IdempotencyConflictError:
    return IdempotencyConflictError(
        "Idempotency-Key was used before with another request; use a new key", field="Idempotency-Key"
    )
