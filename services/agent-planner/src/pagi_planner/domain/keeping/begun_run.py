"""A run that was begun, now or before, and how a caller who comes later gets what the first one got."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pagi_chassis import errors as chassis_errors
from pagi_chassis.errors import CancelledByCallerError, InternalError, InvalidArgumentError, PagiError

from pagi_planner.domain import errors
from pagi_planner.domain.errors import RunSuspendedError, RunTakenOverError
from pagi_planner.domain.model import RunRequest, RunResult, RunStatus
from pagi_planner.domain.run.run import Run
from pagi_planner.domain.state.run_state import RunState


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that was begun, now or before; `result` waits for its end.

    Attributes:
        state: Where it stands: its end where nobody works on it.
        run: Where it is in progress.
        task: Drives the run.
        follow: Waits for it where another planner is at it.
    """

    state: RunState
    run: Run | None = None
    task: asyncio.Task[RunResult] | None = None
    follow: Callable[[], Awaitable[RunState]] | None = None

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.state.run_id

    async def result(self) -> RunResult:
        """The result. Who stops waiting does not stop the run.

        A run that waits for a person is a result, too: its `status` says so.

        Raises:
            CancelledByCallerError: The run was cancelled.
            RunSuspendedError: The planner stops; the run goes on after its next start.
            PagiError: The run failed, see `Agent.run`.
        """
        if self.run is None or self.task is None:
            return _result_of(await self.follow() if self.follow else self.state)
        try:
            return await asyncio.shield(self.task)
        except RunTakenOverError:
            if self.follow is None:
                raise
            return _result_of(await self.follow())
        except asyncio.CancelledError:
            # Either of the two was cancelled: the run, or who waits for it.
            waiting = asyncio.current_task()
            if not self.task.cancelled() or (waiting and waiting.cancelling()):
                raise
            if self.run.is_taken_over and self.follow:
                return _result_of(await self.follow())
            self.run.check_end()
            if self.run.is_suspended:
                raise RunSuspendedError(f"the planner stops; {self.run_id} goes on after its next start") from None
            raise CancelledByCallerError(self.run.cancelled_because) from None


def run_id_of(idempotency_key: str) -> str:
    """The id of the run that a key stands for: the key needs no table of its own."""
    return f"run-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]}"


def check_request(begun_with: RunRequest, request: RunRequest | None) -> None:
    """Lets a run be found again by who asks for the same; None: by whoever.

    Raises:
        IdempotencyConflictError: It was begun with another request.
    """
    if request is not None and request != begun_with:
        raise errors.IdempotencyConflictError(
            "Idempotency-Key, or the run's id, was used before with another request; use a new one",
            field="Idempotency-Key",
        )


def _result_of(state: RunState) -> RunResult:
    """What a run's first caller got, for one who asks again."""
    if state.status is RunStatus.CANCELLED:
        raise CancelledByCallerError(state.error)
    if state.status is not RunStatus.FAILED:
        return state.result()
    kind: Any = getattr(errors, state.error_type, None) or getattr(chassis_errors, state.error_type, InternalError)
    error: PagiError = kind(state.error)
    if isinstance(error, InvalidArgumentError):
        error.field = state.error_field
    raise error
