"""A run's work: what it was asked, where it stands, and the one way to bring it further."""

from __future__ import annotations

from typing import Any

from pagi_chassis import correlation

from pagi_planner.domain.model import RunRequest, RunStatus, ToolSpec
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.parts import Parts
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.state.run_state import RunState


class RunLimitError(Exception):
    """A limit is reached: the run ends with what it has."""

    def __init__(self, status: RunStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    @classmethod
    def for_time(cls, timeout_s: float) -> RunLimitError:
        """The run's wall time is over."""
        return cls(RunStatus.LIMIT_TIME, f"its time of {timeout_s:g} s was over")


class Work:
    """What the phases of a run share.

    Args:
        parts: The world.
        request: What was asked for.
        state: Where the run stands: empty at first, folded from the journal where an earlier process began it.
        epoch: Of the claim under which it is worked on.
    """

    def __init__(self, parts: Parts, request: RunRequest, state: RunState, epoch: int = FIRST_EPOCH) -> None:
        self.parts = parts
        self.request = request
        self.state = state
        self.epoch = epoch
        # The tools that this run may use; None until they are looked up, which a process does for itself.
        self.specs: dict[str, ToolSpec] | None = None
        # What their descriptions take of a window, by what is offered: counted once for all calls of the run.
        self.tools_tokens: dict[tuple[str, ...], int] = {}
        # Effects that an earlier process has begun: they may have happened. By their own ids, for models give the id of
        # a call again in a later turn.
        self.inherited = frozenset(state.intents.values())
        # What the model had said of an answer that broke off.
        self.unfinished = ""

    def note(self, kind: EventType, data: dict[str, Any]) -> None:
        """Appends the event and takes it in: the state is never ahead of the journal."""
        state = self.state
        event = Event(
            run_id=state.run_id,
            seq=state.seq + 1,
            type=kind,
            timestamp=self.parts.clock.now(),
            trace_id=correlation.current().trace_id,
            session_id=self.request.session_id,
            data=data,
        )
        self.parts.journal.append(event, self.epoch)
        state.apply(event)
        self.parts.feed.noted(event)

    def needs_approval(self, spec: ToolSpec) -> bool:
        """Whether a person has to allow each call of the tool."""
        return self.parts.policy.needs_approval(spec)

    async def sync(self) -> None:
        """Waits until everything noted is durable.

        Raises:
            RunTakenOverError: Another planner has the run now.
            JournalError: It was not written; the run may not go on.
        """
        run_id, seq = self.state.run_id, self.state.seq
        await self.parts.journal.sync(run_id)
        self.parts.feed.synced(run_id, seq)
