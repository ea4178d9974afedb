"""The agent: understand, plan, execute, evaluate, with every step in the journal before it counts."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, replace

from pagi_chassis import correlation, deadline, telemetry
from pagi_chassis.errors import PagiError

from pagi_planner.domain.model import Limits, RunRequest, RunResult
from pagi_planner.domain.ports import Clock, Journal, Memory, Model, Tools
from pagi_planner.domain.recent import RecentIds
from pagi_planner.domain.run import Run, RunLimitError
from pagi_planner.domain.standalone import ListJournal, NoMemory, NoTools, SystemClock
from pagi_planner.domain.state import RunState

__all__ = ["Agent", "Policy"]

DEADLINE_MARGIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How every run of an agent proceeds.

    Attributes:
        max_context_tokens: Window for the first messages (estimated tokens).
        max_refinements: How often a poor answer is sent back.
        max_repeats: The same call, with the same arguments, this often in a run is a loop.
        remember_timeout_s: Time for storing the history before the answer goes out; later it is stored behind it.
    """

    max_context_tokens: int = 8_000
    max_refinements: int = 1
    max_repeats: int = 3
    remember_timeout_s: float = 2.0


class Agent:
    """Runs goals. Works in any process: every part that touches the world is passed in.

    Args:
        model: Decides on each step.
        memory: Knowledge and history; None: a run knows nothing but its prompt.
        tools: What the agent can do; None: it can only talk.
        journal: Where each step is written; None: in memory.
        clock: Time of day.
        policy: See there.
    """

    def __init__(
        self,
        model: Model,
        *,
        memory: Memory | None = None,
        tools: Tools | None = None,
        journal: Journal | None = None,
        clock: Clock | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.model = model
        self.memory = memory or NoMemory()
        self.tools = tools or NoTools()
        self.journal = journal or ListJournal()
        self.clock = clock or SystemClock()
        self.policy = policy or Policy()
        self.remembered = RecentIds()

    async def run(self, goal: str | RunRequest, *, run_id: str = "", trace_id: str = "") -> RunResult:
        """Works on a goal to its end.

        A run that meets a limit is a result too: its `status` says so.

        Args:
            goal: A prompt, or a request with all its settings.
            run_id: Empty: a new one. An id may be used once.
            trace_id: Empty: that of the caller's correlation, or a new one.

        Raises:
            InvalidArgumentError: The request names a tool, persona or model that does not exist. The run is recorded.
            JournalError: The journal cannot be written; nothing further was done.
            PagiError: The model cannot be reached. The run is recorded as failed.
            asyncio.CancelledError: The task was cancelled. The run is recorded as cancelled.
        """
        run_id = run_id or new_run_id()
        request = goal if isinstance(goal, RunRequest) else RunRequest(goal)
        request = replace(request, session_id=request.session_id or session_id_of(run_id))
        trace_id = trace_id or correlation.current().trace_id or uuid.uuid4().hex
        state = RunState(run_id)
        with (
            correlation.bind(trace_id=trace_id, run_id=run_id, session_id=request.session_id),
            telemetry.span("invoke_agent", attributes={"pagi.run_id": run_id, "pagi.trace_id": trace_id}),
        ):
            await self._drive(Run(self, request, state), request.limits)
        return state.result()

    async def _drive(self, run: Run, limits: Limits) -> None:
        """Takes the run to a final event, whatever happens."""
        try:
            await run.begin()
            await _within(limits.timeout_s, run)
        except RunLimitError as limit:
            await run.end_at_limit(limit)
        except asyncio.CancelledError:
            await asyncio.shield(run.cancel("the run was cancelled"))
            raise
        except PagiError as error:
            await run.fail(error, error.message)
            raise
        except Exception as error:
            await run.fail(error, "internal error")
            raise
        await run.remember()


async def _within(timeout_s: float, run: Run) -> None:
    """Works for as long as the run has; other timeouts, of a model say, are errors like any other."""
    # Others are told a later moment: so the run's own end comes first, and is not taken for a fault of theirs.
    with deadline.limit(timeout_s + DEADLINE_MARGIN_S):
        clock = asyncio.timeout(timeout_s)
        try:
            async with clock:
                await run.understand()
                await run.work()
        except TimeoutError as error:
            if clock.expired():
                raise RunLimitError.for_time(timeout_s) from error
            raise


def new_run_id() -> str:
    """A new run's id."""
    return f"run-{uuid.uuid4().hex}"


def session_id_of(run_id: str) -> str:
    """The session of a run whose caller named none."""
    return run_id.replace("run-", "session-", 1)
