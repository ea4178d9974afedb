"""The history of sessions, where a run could not store its own part of it."""

from __future__ import annotations

from pagi_planner.domain.agent import Agent
from pagi_planner.domain.events import Event
from pagi_planner.domain.state import RunState


class HistoryKeeper:
    """Stores the exchange of a run that ended while memory was away.

    Args:
        agent: Whose runs these are; it knows which of them have stored their exchange themselves.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def deliver(self, event: Event) -> None:
        """Stores the exchange unless the run has done so itself. A repeat changes nothing, by memory's contract.

        Args:
            event: The PLAN_END of the run.

        Raises:
            PagiError: The journal or memory cannot be reached, or memory refuses the exchange.
        """
        if event.run_id not in self._agent.parts.remembered:
            state = RunState.of(await self._agent.journal.events(event.run_id))
            await self._agent.parts.memory.remember(state.exchange())
