"""The runs that this planner may work on: claimed in the store, one hand at a time, read from the journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

from pagi_chassis.errors import UnavailableError

from pagi_planner.domain.agent import Agent
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.keeping.keyed_lock import KeyedLock
from pagi_planner.domain.ownership import Claim, Order
from pagi_planner.domain.ports import RunStore
from pagi_planner.domain.run import records
from pagi_planner.domain.run.run import Run
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.state.run_state import Phase, RunState

log = logging.getLogger(__name__)

# Another planner's run is looked at again after this, where nothing was heard of it before (seconds).
LOOK_S = 1.0
# So many runs are claimed in one statement.
CLAIMED_AT_ONCE = 200
# What reading a run raises that a newer version has written, say.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, AssertionError)


class Custody:
    """Takes runs, reads them, lets go of them, and reaches those that another planner has.

    Args:
        agent: Does the work.
        store: Says who has which run.
    """

    def __init__(self, agent: Agent, store: RunStore) -> None:
        self._agent = agent
        self._store = store
        self._locks = KeyedLock()
        # Claimed here, and waiting for room.
        self._queued: dict[str, Claim] = {}
        # Neither read nor ended; left alone until a planner that can read them comes.
        self._unreadable: set[str] = set()

    @property
    def queued(self) -> int:
        """How many runs are claimed here and wait for room."""
        return len(self._queued)

    @property
    def unreadable(self) -> int:
        """How many runs were neither read nor ended."""
        return len(self._unreadable)

    def is_queued(self, run_id: str) -> bool:
        """Whether the run is claimed here and waits for room."""
        return run_id in self._queued

    def alone(self, run_id: str) -> AbstractAsyncContextManager[None]:
        """Keeps others of this process from taking the run meanwhile."""
        return self._locks.hold(run_id)

    async def state(self, run_id: str) -> RunState | None:
        """Where a run stands; None where there is none."""
        events = await self._agent.journal.events(run_id)
        return RunState.of(events) if events else None

    async def has_ended(self, run_id: str) -> bool:
        """Whether a run is over; of one that cannot be read nobody can tell, so that it is not."""
        try:
            state = await self.state(run_id)
        except UNREADABLE:
            return False
        return state is not None and state.is_final

    async def take(self, run_id: str) -> Run | None:
        """Claims a run that nothing works on here, to go on with it. To be called `alone`.

        Returns:
            None where there is none, it has ended, or another living planner has it.

        Raises:
            JournalError: The store or the journal cannot be reached.
            Exception: The run cannot be read, and is ended as failed.
        """
        claim = self._queued.pop(run_id, None)
        if claim is None:
            claims = await self._store.claim([run_id])
            if not claims:
                return None
            claim = claims[0]
        # Read after the claim: nobody else adds to it from here on.
        return await self._read(claim)

    async def let_go(self, run: Run) -> None:
        """Leaves a run that waits for a person to whichever planner hears the word."""
        try:
            await self._store.release(run.state.run_id, run.epoch)
        except JournalError as error:
            # It stays this planner's, which comes across it again.
            log.warning("%s is not let go of yet: %s", run.state.run_id, error.message)

    def resume(self, run: Run) -> None:
        """Notes that a run which was cut off goes on here."""
        run.resume(self._store.owner)

    async def gather(self, active: Collection[str], closing: Collection[str]) -> frozenset[str]:
        """Claims the runs of dead planners, for `next`.

        Args:
            active: What is at work here.
            closing: What is being closed here.

        Returns:
            The unfinished runs that are this planner's by the store, or a dead one's.
        """
        found = await self._store.lapsed()
        for start in range(0, len(found), CLAIMED_AT_ONCE):
            # Looked at for each claim: what was free before the last one may have been taken since.
            busy = {*active, *closing, *self._queued, *self._unreadable}
            some = found[start : start + CLAIMED_AT_ONCE]
            await self._gather([run_id for run_id in some if run_id not in busy and run_id not in self._locks])
        return frozenset(found)

    async def _gather(self, run_ids: Sequence[str]) -> None:
        """Claims runs that nobody takes meanwhile: the later of two claims would void the work of the earlier."""
        if run_ids:
            async with AsyncExitStack() as held:
                for run_id in run_ids:
                    await held.enter_async_context(self.alone(run_id))
                claims = await self._store.claim(run_ids)
                self._queued.update((claim.run_id, claim) for claim in claims)

    def next(self) -> str | None:
        """A run that was gathered and nobody has taken yet."""
        return next(iter(self._queued), None)

    async def pass_on(self, order: Order, since: int) -> None:
        """Leaves word for the planner that has the run, and waits until something has happened.

        Args:
            order: What it is asked for.
            since: The position of the journal at the last look.
        """
        await self._store.hand_on(order)
        await self.change(since)

    @property
    def position(self) -> int:
        """Where the journal stands."""
        return self._store.last_position

    async def change(self, since: int) -> None:
        """Returns when the journal has grown, and after a second at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._store.wait(since)

    async def follow(self, run_id: str) -> RunState:
        """The state of a run that another planner works on, when it has ended or waits for a person.

        Raises:
            UnavailableError: There is no such run, though there was to be one.
        """
        while True:
            since = self.position
            state = await self.state(run_id)
            if state is None:
                raise UnavailableError(f"{run_id} was not begun; ask again")
            if state.phase in (Phase.WAIT, Phase.ENDED):
                return state
            await self.change(since)

    async def _read(self, claim: Claim) -> Run:
        try:
            events = await self._agent.journal.events(claim.run_id)
            return self._agent.reopen(RunState.of(events), claim.epoch)
        except UNREADABLE as error:
            await self._close(claim, error)
            raise

    async def _close(self, claim: Claim, error: Exception) -> None:
        """Ends a run that cannot be read, written by a newer version say: none stays `running`."""
        log.error("%s cannot be read and is ended as failed: %r", claim.run_id, error)
        text = "what the journal holds of this run cannot be read by this version of the planner"
        data = records.failure("InternalError", text)
        now = self._agent.parts.clock.now()
        end = Event(claim.run_id, claim.last_seq + 1, EventType.PLAN_ERROR, now, claim.trace_id, claim.session_id, data)
        try:
            self._agent.journal.append(end, claim.epoch)
            await self._agent.journal.sync(claim.run_id)
        except JournalError as fault:
            self._unreadable.add(claim.run_id)
            log.error("%s cannot be ended either: %s", claim.run_id, fault.message)
