"""The runs of this process: started once, bounded in number, looked up by id."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pagi_chassis import errors as chassis_errors
from pagi_chassis.errors import InternalError, PagiError

from pagi_planner.domain import errors
from pagi_planner.domain.agent import Agent, new_run_id
from pagi_planner.domain.events import Event, EventType
from pagi_planner.domain.model import RunRequest, RunResult, RunStatus, RunSummary
from pagi_planner.domain.ports import RunIndex
from pagi_planner.domain.state import RunState

log = logging.getLogger(__name__)

# A client that is turned away may try again after about the time of a short run.
RETRY_AFTER_S = 1.0


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
        self._active: dict[str, asyncio.Task[RunResult]] = {}

    @property
    def active(self) -> int:
        """How many runs are in progress."""
        return len(self._active)

    async def run(self, request: RunRequest, *, idempotency_key: str = "") -> RunResult:
        """Runs a request to its end, or joins the run that the same key has started.

        The caller may leave: the run goes on, and is found by its id.

        Args:
            request: What to do.
            idempotency_key: Empty: always a new run.

        Raises:
            OverloadedError: Too many runs are in progress.
            IdempotencyConflictError: The key belongs to another request.
            PagiError: The run failed, see `Agent.run`.
        """
        run_id = run_id_of(idempotency_key) if idempotency_key else new_run_id()
        if idempotency_key and (repeat := await self._repeat(run_id, request)):
            return repeat
        if run_id not in self._active:
            if self.active >= self._max_concurrent:
                raise errors.OverloadedError(
                    f"{self._max_concurrent} runs are in progress, which is the most (MAX_CONCURRENT_REQUESTS)",
                    retry_after_s=RETRY_AFTER_S,
                )
            task = asyncio.create_task(self._agent.run(request, run_id=run_id), name=run_id)
            self._active[run_id] = task
            task.add_done_callback(lambda _: self._finished(run_id))
        return await asyncio.shield(self._active[run_id])

    async def get(self, run_id: str) -> RunResult:
        """A run, finished or not.

        Raises:
            RunNotFoundError: There is none.
        """
        return (await self._state(run_id)).result()

    async def find(self, *, limit: int, before: str = "", session_id: str = "") -> Sequence[RunSummary]:
        """The newest runs, newest first."""
        return await self._index.runs(limit=limit, before=before, session_id=session_id)

    async def close_interrupted(self) -> int:
        """Ends the runs that a dead process has left, as failed. Returns how many."""
        run_ids = await self._index.unfinished()
        for run_id in run_ids:
            state = await self._state(run_id)
            self._agent.journal.append(
                Event(
                    run_id=run_id,
                    seq=state.seq + 1,
                    type=EventType.PLAN_ERROR,
                    timestamp=self._agent.clock.now(),
                    trace_id=state.trace_id,
                    session_id=state.session_id,
                    data={"error": "the planner stopped in the middle of this run", "error_type": "InterruptedRun"},
                )
            )
            await self._agent.journal.sync(run_id)
        return len(run_ids)

    async def stop(self, grace_s: float) -> None:
        """Lets the runs in progress end; those that take longer are cancelled, and recorded as such."""
        tasks = list(self._active.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("%d runs were cancelled because the planner stops", len(late))
            await asyncio.wait(late)

    async def _repeat(self, run_id: str, request: RunRequest) -> RunResult | None:
        """The result of a run that the key has started before; None where it runs now or never did."""
        events = await self._agent.journal.events(run_id)
        if not events:
            return None
        state = RunState.of(events)
        if not _same_request(state, request):
            raise errors.IdempotencyConflictError(
                "this key was used before with another request; use a new key", field="Idempotency-Key"
            )
        if not state.is_final:
            return None
        if state.status is RunStatus.FAILED:
            raise _error_of(state)
        return state.result()

    async def _state(self, run_id: str) -> RunState:
        events = await self._agent.journal.events(run_id)
        if not events:
            raise errors.RunNotFoundError(f"there is no run {run_id!r}")
        return RunState.of(events)

    def _finished(self, run_id: str) -> None:
        task = self._active.pop(run_id)
        # Seen here too, since the caller may have left; the run itself has recorded it.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, PagiError):
            log.error("%s failed", run_id, exc_info=error)


def run_id_of(idempotency_key: str) -> str:
    """The id of the run that a key stands for: the key needs no table of its own."""
    return f"run-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]}"


def session_id_of(run_id: str) -> str:
    """The session of a run whose caller named none."""
    return run_id.replace("run-", "session-", 1)


def _same_request(state: RunState, request: RunRequest) -> bool:
    known: dict[str, Any] = {**state.request, "session_id": state.session_id}
    asked = asdict(request)
    asked["tools"] = None if request.tools is None else list(request.tools)
    asked["resources"] = list(asked["resources"])
    return all(known[name] == value for name, value in asked.items())


def _error_of(state: RunState) -> PagiError:
    """The error that a run ended with, as its first caller got it."""
    kind: Any = getattr(errors, state.error_type, None) or getattr(chassis_errors, state.error_type, InternalError)
    error: PagiError = kind(state.error)
    return error
