"""Has the planner that works on a run do something for it."""

from __future__ import annotations

import asyncio

from pagi_chassis.errors import UnavailableError

from pagi_planner.domain.keeping.custody import Custody
from pagi_planner.domain.ownership import Order

# A planner that does not do what it is asked for is dead by then, and its runs are claimed (seconds).
PATIENCE_S = 15.0


class Reach:
    """One attempt to have the planner that has a run do something for it."""

    def __init__(self, custody: Custody) -> None:
        self._custody = custody
        self._since = custody.position
        self._gives_up_at = asyncio.get_running_loop().time() + PATIENCE_S

    async def ask(self, order: Order) -> None:
        """Leaves word, and returns when it is worth another look.

        Raises:
            UnavailableError: Nothing has come of it for a long time.
        """
        if asyncio.get_running_loop().time() > self._gives_up_at:
            raise UnavailableError(f"the planner that works on {order.run_id} does not answer; try again")
        since, self._since = self._since, self._custody.position
        await self._custody.pass_on(order, since)
