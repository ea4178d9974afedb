"""What was asked for before and is asked for again: the run that it has begun, wherever that is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pagi_planner.domain.agent import Agent
from pagi_planner.domain.errors import OverloadedError
from pagi_planner.domain.keeping.begun_run import BegunRun, check_request
from pagi_planner.domain.keeping.custody import Custody
from pagi_planner.domain.keeping.workshop import Workshop
from pagi_planner.domain.model import RunRequest
from pagi_planner.domain.state.run_state import Phase, RunState

# A client that is turned away may try again after about the time of a short run.
RETRY_AFTER_S = 1.0


class Repeats:
    """Finds the runs that were begun before.

    Args:
        agent: Does the work.
        custody: Reads runs, and claims those that nobody works on.
        workshop: Drives them.
    """

    def __init__(self, agent: Agent, custody: Custody, workshop: Workshop) -> None:
        self._agent = agent
        self._custody = custody
        self._workshop = workshop

    async def find(self, run_id: str, request: RunRequest | None) -> BegunRun | None:
        """The run of this id, which goes on here where it was cut off; None where there is none.

        Raises:
            IdempotencyConflictError: It was begun with another request than this; None: with whichever.
            OverloadedError: It waits for room to go on.
            UnavailableError: Its journal cannot be told yet how it has ended.
        """
        if run_id not in self._workshop.at_work:
            await self._workshop.closed(run_id)
            state = await self._custody.state(run_id)
            if run_id in self._workshop.left and not (state and state.is_final):
                # It ended after the look at the journal; its end was durable before it left.
                state = await self._custody.state(run_id)
            # It may have begun during the look.
            if run_id not in self._workshop.at_work:
                return await self._from_journal(state, request) if state else None
        return self._at_work(run_id, request)

    def following(self, run_id: str, request: RunRequest | None) -> Callable[[], Awaitable[RunState]]:
        """What waits for a run at which another planner is."""

        async def follow() -> RunState:
            state = await self._custody.follow(run_id)
            check_request(self._agent.request_of(state), request)
            return state

        return follow

    def _at_work(self, run_id: str, request: RunRequest | None) -> BegunRun:
        active = self._workshop.at_work[run_id]
        check_request(active.request, request)
        return BegunRun(active.run.state, active.run, active.task, self.following(run_id, request))

    async def _from_journal(self, state: RunState, request: RunRequest | None) -> BegunRun:
        """The run that is in the journal and not in progress here."""
        check_request(self._agent.request_of(state), request)
        if state.phase in (Phase.WAIT, Phase.ENDED):
            return BegunRun(state)
        run_id = state.run_id
        # A child needs no room of its own.
        if request is not None and self._custody.is_queued(run_id) and not self._workshop.has_room:
            raise OverloadedError(
                f"{run_id} was cut off and goes on when there is room for it; ask again", retry_after_s=RETRY_AFTER_S
            )
        async with self._custody.alone(run_id):
            run = None if run_id in self._workshop.at_work else await self._custody.take(run_id)
            if run:
                await self._workshop.go_on(run, was_cut_off=True)
        if run_id in self._workshop.at_work:
            return self._at_work(run_id, request)
        return BegunRun(run.state if run else state, follow=self.following(run_id, request))
