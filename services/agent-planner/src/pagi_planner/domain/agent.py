"""The agent: understand, plan, execute, evaluate, with every step in the journal before it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pagi_chassis import correlation
from pagi_chassis.ids import new_id

from pagi_planner.domain.context.tokens import Room
from pagi_planner.domain.model import RunRequest, RunResult
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.parts import Parts, Policy
from pagi_planner.domain.ports import Catalogue, Clock, Documents, Journal, Memory, Model, SessionFiles, Timings, Tools
from pagi_planner.domain.run import records
from pagi_planner.domain.run.run import Run
from pagi_planner.domain.run.work import Work
from pagi_planner.domain.standalone import (
    ListJournal,
    NoCatalogue,
    NoDocuments,
    NoMemory,
    NoTimings,
    NoTools,
    SystemClock,
)
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.tools.read_artifact import ReadArtifact
from pagi_planner.domain.tools.toolbox import OwnTool, Toolbox

__all__ = ["Agent", "Policy"]


class Agent:
    """Runs goals. Works in any process: every part that touches the world is passed in.

    Args:
        model: Decides on each step.
        memory: Knowledge and history; None: a run knows nothing but its prompt.
        tools: What the agent can do; None: it can only talk.
        journal: Where each step is written; None: in memory.
        clock: Time of day.
        policy: See there.
        own_tools: What the planner itself can do for a run, offered beside `tools`.
        catalogue: Knows the models; None: nothing is known of them.
        documents: Reads files that are not text; None: they are refused.
        timings: Measures phases; None: nothing is measured.
        files: Of the sessions' workspaces; None: there are none.
        rooms: For a recorded run that is driven again: see `Parts`.
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
        own_tools: Sequence[OwnTool] = (),
        catalogue: Catalogue | None = None,
        documents: Documents | None = None,
        timings: Timings | None = None,
        files: SessionFiles | None = None,
        rooms: Mapping[int, Room] | None = None,
    ) -> None:
        self.parts = Parts(
            model,
            memory or NoMemory(),
            tools or NoTools(),
            journal or ListJournal(),
            clock or SystemClock(),
            policy or Policy(),
            catalogue or NoCatalogue(),
            documents or NoDocuments(),
            timings or NoTimings(),
            files,
            Toolbox([ReadArtifact(), *own_tools]),
            rooms or {},
        )

    @property
    def journal(self) -> Journal:
        """Where its runs are written."""
        return self.parts.journal

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
        return await self.open(goal, run_id=run_id, trace_id=trace_id).drive()

    def open(self, goal: str | RunRequest, *, run_id: str = "", trace_id: str = "") -> Run:
        """A new run, to be driven; see `run`."""
        run_id = run_id or new_run_id()
        request = goal if isinstance(goal, RunRequest) else RunRequest(goal)
        request = replace(request, session_id=request.session_id or session_id_of(run_id))
        trace_id = trace_id or correlation.current().trace_id or new_id()
        return Run(Work(self.parts, request, RunState(run_id)), trace_id)

    def reopen(self, state: RunState, epoch: int = FIRST_EPOCH) -> Run:
        """A run that was begun before, to be driven on from where its journal ends.

        What is finished is not done again; what was under way is asked for under the same effect id.

        Args:
            state: Folded from the journal.
            epoch: Of the claim under which it is worked on.
        """
        return Run(Work(self.parts, records.request_of(state), state, epoch), state.trace_id)

    def request_of(self, state: RunState) -> RunRequest:
        """What the run was asked for."""
        return records.request_of(state)


def new_run_id() -> str:
    """A new run's id."""
    return f"run-{new_id()}"


def session_id_of(run_id: str) -> str:
    """The session of a run whose caller named none."""
    return run_id.replace("run-", "session-", 1)
