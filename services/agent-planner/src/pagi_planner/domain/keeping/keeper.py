"""Keeps this planner alive in the eyes of others, takes up what the dead have left, and does what it is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pagi_chassis.errors import PagiError

from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.ownership import Order
from pagi_planner.domain.ports import RunLeases

log = logging.getLogger(__name__)


class Keeper:
    """Renews the lease on the runs of this planner, looks for those of dead ones, and hears orders.

    Args:
        runs: What is kept.
        leases: Where planners meet.
        beat_s: A sign of life is given, and that of the others looked at, as often (seconds).
        grace_s: Runs in progress have this long to end when the planner stops.
    """

    def __init__(self, runs: Runs, leases: RunLeases, *, beat_s: float = 1.0, grace_s: float = 8.0) -> None:
        self._runs = runs
        self._leases = leases
        self._beat_s = beat_s
        self._grace_s = grace_s
        self._beating: asyncio.Task[None] | None = None
        self._others: list[asyncio.Task[None]] = []
        self._doing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes up what a dead process of this planner left, so that none of it stays `running`."""
        await self._leases.renew()
        await self._runs.recover()
        self._beating = asyncio.create_task(self._forever("no sign of life is given", self._beat), name="heartbeat")
        self._others = [
            asyncio.create_task(self._forever("runs of the dead are not looked for", self._take_over), name="takeover"),
            asyncio.create_task(self._forever("orders are not heard", self._hear), name="orders"),
        ]

    async def stop(self) -> None:
        """Lets runs in progress end."""
        await _end([*self._others, *self._doing])
        await self._runs.stop(self._grace_s)
        if self._beating:
            await _end([self._beating])

    async def _forever(self, fault: str, work: Callable[[], Awaitable[None]]) -> None:
        """Does the work again and again: a planner that stopped doing it would look alive, or dead, for ever."""
        while True:
            try:
                await work()
            except JournalError as error:
                log.warning("%s: %s", fault, error.message)
            except Exception:
                # Of ours: said, and tried again.
                log.exception("%s", fault)
                await asyncio.sleep(self._beat_s)

    async def _beat(self) -> None:
        await asyncio.sleep(self._beat_s)
        await self._leases.renew()

    async def _take_over(self) -> None:
        await asyncio.sleep(self._beat_s / 2)
        if taken := await self._runs.recover():
            log.info("%d runs of other planners were taken over", taken)

    async def _hear(self) -> None:
        await self._leases.wait_for_orders(self._beat_s)
        for order in await self._leases.orders():
            task = asyncio.create_task(self._carry_out(order), name=f"{order.kind} {order.run_id}")
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)

    async def _carry_out(self, order: Order) -> None:
        try:
            await self._runs.carry_out(order)
        except PagiError as error:
            # Who asked looks at the run and sees for himself.
            log.info("%s of %s was not done: %s", order.kind, order.run_id, error.message)
        except Exception:
            log.exception("%s of %s failed", order.kind, order.run_id)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
