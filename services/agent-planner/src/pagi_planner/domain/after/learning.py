"""Lets memory learn from runs, behind their answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pagi_chassis import correlation

from pagi_planner.domain.agent import Agent
from pagi_planner.domain.ports import Mind
from pagi_planner.domain.state.events import Event
from pagi_planner.domain.state.lesson import Account, account_of
from pagi_planner.domain.state.run_state import RunState


class Teacher:
    """Tells the mind of runs that ended: what each teaches, and what it says of the playbooks that it was given.

    Args:
        agent: Whose runs these are: a run that ends in this process gives its account itself.
        mind: What learns. A repeat changes nothing there.
    """

    def __init__(self, agent: Agent, mind: Mind) -> None:
        self._journal = agent.journal
        self._accounts = agent.parts.accounts
        self._accounts.is_read = True
        self._mind = mind

    async def deliver(self, events: Sequence[Event]) -> Sequence[str]:
        """Tells of the runs, all of one tenant at once.

        Args:
            events: The PLAN_END of each run.

        Returns:
            For each run why it was refused; empty where it was not.

        Raises:
            PagiError: The journal or memory cannot be reached.
        """
        accounts = [await self._account(event.run_id) for event in events]
        telling: dict[str, list[Account]] = defaultdict(list)
        for account in accounts:
            if account.tells:
                telling[account.tenant].append(account)
        refusals: dict[Account, str] = {}
        for tenant, of_tenant in telling.items():
            with correlation.bind(tenant=tenant):
                refusals.update(zip(of_tenant, await self._mind.record(of_tenant), strict=True))
        for event in events:
            self._accounts.forget(event.run_id)
        return [refusals.get(account, "") for account in accounts]

    async def _account(self, run_id: str) -> Account:
        """What the run had to say at its end; of one that ended in another process, what its journal says."""
        known = self._accounts.of(run_id)
        return known or account_of(RunState.of(await self._journal.events(run_id)))
