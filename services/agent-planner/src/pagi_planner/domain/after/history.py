"""The history of sessions, where a run could not store its own part of it."""

from __future__ import annotations

from collections.abc import Sequence

from pagi_chassis import correlation

from pagi_planner.domain.agent import Agent
from pagi_planner.domain.state.events import Event
from pagi_planner.domain.state.run_state import RunState


class HistoryKeeper:
    """Stores the exchange of a run that ended while memory was away.

    Args:
        agent: Whose runs these are; it knows which of them have stored their exchange themselves.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def deliver(self, events: Sequence[Event]) -> Sequence[str]:
        """Stores the exchanges that runs have not stored themselves. A repeat changes nothing, by memory's contract.

        Args:
            events: The PLAN_END of each run.

        Raises:
            PagiError: The journal or memory cannot be reached, or memory refuses an exchange.
        """
        parts = self._agent.parts
        for event in events:
            if event.run_id not in parts.remembered:
                state = RunState.of(await self._agent.journal.events(event.run_id))
                with correlation.bind(tenant=state.tenant):
                    await parts.memory.remember(state.exchange())
                parts.remembered.add(event.run_id)
        return ()
