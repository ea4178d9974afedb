"""The runs at work in this process: driven as tasks, taken up where a planner died, closed where the journal failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from dataclasses import dataclass
from functools import partial

from pagi_chassis.errors import PagiError, UnavailableError

from pagi_planner.domain.agent import Agent
from pagi_planner.domain.errors import JournalError, RunTakenOverError
from pagi_planner.domain.keeping.custody import Custody
from pagi_planner.domain.model import RunRequest, RunResult, RunStatus
from pagi_planner.domain.recent import RecentIds
from pagi_planner.domain.run.run import Run
from pagi_planner.domain.state.run_state import Phase, RunState

log = logging.getLogger(__name__)

# A run whose journal could not be written is closed when it can be; the first try comes after this.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
# Who asks for such a run waits so long for its end.
CLOSING_PATIENCE_S = 1.0

# Of a run whose parent was cancelled, or ended by a limit.
PARENT_ENDED = "the run that had handed it on was ended"

# Writes how a run ends.
End = Callable[[Run], Awaitable[None]]


@dataclass(slots=True)
class AtWork:
    """A run that a task of this process drives."""

    request: RunRequest
    run: Run
    task: asyncio.Task[RunResult]
    # It waits for a person and is about to be let go of.
    is_leaving: bool = False
    is_cancelled: bool = False

    def cancel(self, reason: str) -> None:
        """Stops it, once: one that is ending already ends as it does, with its end in the journal."""
        if not (self.is_leaving or self.is_cancelled or self.run.state.is_final):
            self.is_cancelled = True
            self.run.cancelled_because = reason
            self.task.cancel()

    def has_ended(self) -> bool:
        """Whether the run, whose task is done, has an end that the journal knows of.

        Raises:
            JournalError: It was cancelled, and the journal does not say so yet.
        """
        self.run.check_end()
        # An end that was noted and then not written, or refused because another planner has the run, is none.
        is_lost = not self.task.cancelled() and isinstance(self.task.exception(), JournalError)
        return self.run.state.is_final and not (is_lost or self.run.is_taken_over)


class Workshop:
    """Drives runs.

    Args:
        agent: Does the work.
        custody: Claims runs and lets go of them.
        room: Runs at work at once, as far as those are concerned that a dead planner has left.
        cancel_children: Stops what a run had handed on and does not wait for.
    """

    def __init__(
        self, agent: Agent, custody: Custody, *, room: int, cancel_children: Callable[[RunState], Awaitable[None]]
    ) -> None:
        self._agent = agent
        self._custody = custody
        self._room = room
        self._cancel_children = cancel_children
        self.at_work: dict[str, AtWork] = {}
        # Of the latest that left.
        self.left = RecentIds()
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._filling: asyncio.Task[int] | None = None
        self._is_stopping = False

    @property
    def closing(self) -> Collection[str]:
        """Runs whose journal could not be written and that are to be ended when it can."""
        return self._closing.keys()

    @property
    def has_room(self) -> bool:
        """Whether one run more may be in progress."""
        return len(self.at_work) < self._room

    def drive(self, request: RunRequest, run: Run) -> asyncio.Task[RunResult]:
        """Drives a run that is this planner's."""
        run_id = run.state.run_id
        task = asyncio.create_task(self._work(run), name=run_id)
        self.at_work[run_id] = AtWork(request, run, task)
        task.add_done_callback(lambda _: self._left(run_id))
        return task

    async def _work(self, run: Run) -> RunResult:
        """Drives a run to its end, or to where it waits for a person and is let go of."""
        while True:
            try:
                result = await run.drive()
            finally:
                if run.state.is_final and run.state.status is not RunStatus.CANCELLED:
                    await self._give_up_children(run.state)
            # Decided on while it was on its way to wait: there is more to do.
            if run.state.phase is Phase.WAIT:
                self.at_work[run.state.run_id].is_leaving = True
                await self._custody.let_go(run)
                return result
            if run.state.phase is Phase.ENDED:
                return result

    async def _give_up_children(self, state: RunState) -> None:
        """Stops what a run had handed on where a limit, or a fault, ended it before it came to wait for that."""
        try:
            await self._cancel_children(state)
        except PagiError as error:
            log.error("what %s had handed on is not cancelled: %s", state.run_id, error.message)

    async def recover(self) -> int:
        """Takes up the runs that dead planners have left; they go on where they were cut off.

        As many as there is room for at once; the others follow when it is.

        Returns:
            How many were taken up by now.
        """
        at_work = [active for active in self.at_work.values() if active.run.state.seq > 1 and not active.is_leaving]
        own = await self._custody.gather(self.at_work, self._closing)
        for active in at_work:
            # It may have ended, or been let go of, since.
            is_over = active.run.state.is_final or active.is_leaving or active.task.done()
            if active.run.state.run_id not in own and not is_over:
                self._give_up(active)
        taken = await self._fill(self._room)
        self._fill_on()
        return taken

    def _give_up(self, active: AtWork) -> None:
        """Stops work on a run that another planner has claimed, this one having been away."""
        log.warning("%s was taken over by another planner", active.run.state.run_id)
        active.run.is_suspended = active.run.is_taken_over = True
        active.task.cancel()

    def _fill_on(self) -> None:
        """Sees to it that runs which wait for room are taken up when there is some."""
        if not self._is_stopping and self._custody.next() and not (self._filling and not self._filling.done()):
            # Nothing of the run that has just made room is theirs: neither its deadline nor whose it is.
            self._filling = asyncio.create_task(self._fill(), name="runs that wait for room", context=Context())

    async def _fill(self, most: int | None = None) -> int:
        """Drives runs that were gathered, as long as there is room; at most so many."""
        taken = 0
        while self.has_room and taken != most and (run_id := self._custody.next()):
            async with self._custody.alone(run_id):
                if not self._custody.is_queued(run_id):
                    continue
                try:
                    run = await self._custody.take(run_id)
                    taken += run is not None and await self.go_on(run, was_cut_off=True)
                except JournalError as error:
                    log.error("%s is not taken up yet: %s", run_id, error.message)
                except Exception:
                    # One that cannot be read must not keep the planner from its work.
                    log.exception("%s was interrupted and cannot be taken up", run_id)
        return taken

    async def go_on(self, run: Run, *, was_cut_off: bool) -> bool:
        """Drives a run that was claimed, where there is something to be done."""
        if run.state.phase is Phase.WAIT:
            await self._custody.let_go(run)
        if run.state.phase in (Phase.WAIT, Phase.ENDED):
            return False
        if was_cut_off and await self._is_orphan(run):
            await run.cancel(PARENT_ENDED)
            await self._give_up_children(run.state)
            return False
        if was_cut_off:
            self._custody.resume(run)
        self.drive(self._agent.request_of(run.state), run)
        return True

    async def _is_orphan(self, run: Run) -> bool:
        """Whether a run has ended that had handed this one on: its planner died before it had ended this one, too."""
        parent_id = run.state.request.get("parent_run_id", "")
        return bool(parent_id) and await self._custody.has_ended(parent_id)

    async def stop(self, grace_s: float) -> None:
        """Lets the runs in progress end; those that take longer go on after the next start."""
        self._is_stopping = True
        for closing in self._closing.values():
            closing.cancel()
        if self._filling:
            self._filling.cancel()
        if tasks := [active.task for active in self.at_work.values()]:
            await asyncio.wait(tasks, timeout=grace_s)
        # What they have handed on meanwhile is late, too.
        late = [active for active in self.at_work.values() if not active.task.done()]
        for active in late:
            active.run.is_suspended = True
            active.task.cancel()
        if late:
            log.warning("%d runs are suspended because the planner stops; they go on after its next start", len(late))
            await asyncio.wait([active.task for active in late])

    def _left(self, run_id: str) -> None:
        """A run has ended, waits for a person, or was ended by a fault."""
        active = self.at_work.pop(run_id)
        self.left.add(run_id)
        self._fill_on()
        if active.run.is_end_lost:
            self._close_later(run_id, partial(Run.cancel, reason=active.run.cancelled_because))
        if active.task.cancelled() or not (error := active.task.exception()):
            return
        if not active.run.state.is_final and not isinstance(error, RunTakenOverError):
            self._agent.parts.feed.break_off(run_id, getattr(error, "message", "internal error"))
        # Said here too, since the caller may have left.
        if not isinstance(error, PagiError):
            log.error("%s failed", run_id, exc_info=error)
        if isinstance(error, RunTakenOverError):
            log.warning("%s goes on elsewhere: %s", run_id, error.message)
        elif isinstance(error, JournalError):
            log.error("%s was ended: %s", run_id, error.message)
            lost = JournalError("the journal could not be written in the middle of this run")
            self._close_later(run_id, partial(Run.fail, error=lost))

    async def closed(self, run_id: str) -> None:
        """Waits for the end of a run whose journal could not be written: nobody may go on with it before.

        Raises:
            UnavailableError: It still cannot.
        """
        if closing := self._closing.get(run_id):
            await asyncio.wait([closing], timeout=CLOSING_PATIENCE_S)
        if run_id in self._closing:
            raise UnavailableError(f"{run_id} is over, and its journal cannot be told yet; ask again")

    def _close_later(self, run_id: str, end: End) -> None:
        self._closing[run_id] = closing = asyncio.create_task(self._close(run_id, end), name=f"close {run_id}")
        closing.add_done_callback(lambda _: self._closing.pop(run_id))

    async def _close(self, run_id: str, end: End) -> None:
        """Ends a run whose journal could not be written, as soon as it can be: none stays `running`."""
        pause = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause)
            try:
                async with self._custody.alone(run_id):
                    if run := await self._custody.take(run_id):
                        await end(run)
            except JournalError:
                pause = min(pause * 2, LONGEST_PAUSE_S)
            except Exception:
                # One that cannot be read was ended for that.
                log.exception("%s is not ended as it was to be", run_id)
                return
            else:
                return
