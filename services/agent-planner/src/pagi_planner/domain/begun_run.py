"""A run that was begun, now or before, and how a caller who comes later gets what the first one got."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from pagi_chassis import errors as chassis_errors
from pagi_chassis.errors import CancelledByCallerError, InternalError, InvalidArgumentError, PagiError

from pagi_planner.domain import errors
from pagi_planner.domain.model import RunRequest, RunResult, RunStatus
from pagi_planner.domain.state import RunState


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that was begun, now or before; `result` waits for its end."""

    run_id: str
    _outcome: asyncio.Task[RunResult] | RunState

    async def result(self) -> RunResult:
        """The result. Who stops waiting does not stop the run.

        Raises:
            CancelledByCallerError: The run was cancelled.
            PagiError: The run failed, see `Agent.run`.
        """
        if isinstance(self._outcome, RunState):
            return _result_of(self._outcome)
        try:
            return await asyncio.shield(self._outcome)
        except asyncio.CancelledError:
            # Either of the two was cancelled: the run, or who waits for it.
            waiting = asyncio.current_task()
            if self._outcome.cancelled() and not (waiting and waiting.cancelling()):
                raise CancelledByCallerError("the run was cancelled") from None
            raise


def run_id_of(idempotency_key: str) -> str:
    """The id of the run that a key stands for: the key needs no table of its own."""
    return f"run-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]}"


def is_of(state: RunState, request: RunRequest) -> bool:
    """Whether the run was begun with this request."""
    known: dict[str, Any] = {**state.request, "session_id": state.session_id}
    asked = asdict(request)
    asked["tools"] = None if request.tools is None else list(request.tools)
    asked["resources"] = list(asked["resources"])
    return all(known[name] == value for name, value in asked.items())


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
