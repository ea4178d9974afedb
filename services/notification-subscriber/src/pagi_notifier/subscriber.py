"""The edge: takes entries from the inbox, hands each to the courier, acknowledges what was delivered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from pagi_chassis import correlation, telemetry

from pagi_notifier.adapters import prometheus_figures as figures
from pagi_notifier.convert import notification_from_json
from pagi_notifier.domain.courier import Courier
from pagi_notifier.domain.errors import InboxUnavailableError, UnreadableEntryError
from pagi_notifier.domain.model import Entry, Notification, Outcome
from pagi_notifier.domain.ports import Inbox

log = logging.getLogger(__name__)

# What follows within this time is taken together: a round trip to Redis costs as much as ten entries.
GATHER_S = 0.1
WAIT_S = 2.0  # one question to Redis every two seconds is what an idle subscriber costs
UPKEEP_S = 5.0  # how old the backlog's figures may be
FORGET_S = 60.0  # how often delivered entries are cleared away
STOP_S = 2.0
PAUSE_S = 1.0  # after the inbox refused; while it is merely away the inbox itself waits


class Subscriber:
    """A component that delivers until it is stopped.

    Args:
        inbox: Where notifications wait.
        courier: Who delivers them.
        channel: The channel's name, for metrics.
        batch: New entries taken at once.
        claim_idle_s: Seconds after which a silent consumer's entries are taken over.
        keep_s: Seconds that delivered entries are kept.
    """

    def __init__(
        self, inbox: Inbox, courier: Courier, *, channel: str, batch: int, claim_idle_s: float, keep_s: float
    ) -> None:
        self._inbox = inbox
        self._courier = courier
        self._channel = channel
        self._batch = batch
        self._claim_idle_s = claim_idle_s
        # How long a batch may be worked on before what is left of it is claimed anew.
        self._hold_s = min(claim_idle_s / 2, 1.0)
        self._takeover_every_s = max(0.05, min(claim_idle_s / 3, 5.0))
        self._keep_s = keep_s
        self._tasks: list[asyncio.Task[None]] = []
        self._faults: dict[str, str] = {}
        self._next_takeover = 0.0
        self._next_forget = 0.0

    async def start(self) -> None:
        """Begins. The inbox need not be there yet."""
        self._tasks = [
            asyncio.create_task(self._forever("delivery", self._deliver_next)),
            asyncio.create_task(self._forever("upkeep", self._upkeep)),
        ]

    async def stop(self) -> None:
        """Breaks off the delivery in progress; what was not acknowledged comes again."""
        # The first request to end still acknowledges what was delivered. Where Redis is away that takes for ever,
        # so there is a second one.
        for _ in range(2):
            running = [task for task in self._tasks if not task.done()]
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=STOP_S)

    async def check(self) -> None:
        """For health.

        Raises:
            InboxUnavailableError: Nothing is delivered, for the reason that the text gives.
        """
        if self._faults:
            raise InboxUnavailableError("; ".join(self._faults.values()))

    async def _forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except InboxUnavailableError as error:
                if error.message != self._faults.get(name):
                    log.error("%s", error.message)
                self._faults[name] = error.message
            except Exception as error:
                # A fault of ours in one turn; the next entries may not meet it, and nobody else would deliver them.
                log.exception("%s failed unexpectedly", name)
                self._faults[name] = f"{name} failed unexpectedly: {type(error).__name__}; see the log"
            else:
                self._faults.pop(name, None)
                continue
            await asyncio.sleep(PAUSE_S)

    async def _deliver_next(self) -> None:
        """One turn: what others left, if it is time to look, then what is new."""
        is_more_left = time.monotonic() >= self._next_takeover and await self._deliver_left()
        # New entries are not held up by a long row of old ones, nor the old by the new.
        wait_s = 0.0 if is_more_left else min(WAIT_S, max(0.001, self._next_takeover - time.monotonic()))
        new = await self._inbox.receive(self._batch, wait_s)
        await self._handle(new)
        if 0 < len(new) < self._batch:
            await asyncio.sleep(GATHER_S)

    async def _deliver_left(self) -> bool:
        """Delivers what others left, as much as one takes of what is new; returns whether there may be more."""
        for _ in range(self._batch):
            entry = await self._inbox.take_over()
            if entry is None:
                self._next_takeover = time.monotonic() + self._takeover_every_s
                return False
            figures.REDELIVERED.inc()
            await self._handle([entry])
        return True

    async def _handle(self, entries: Sequence[Entry]) -> None:
        """Delivers in order; acknowledges together, because a round trip each would cost more than delivery."""
        delivered: list[str] = []
        held = {entry.id for entry in entries}
        since = time.monotonic()
        try:
            for at, entry in enumerate(entries):
                if (worked_s := time.monotonic() - since) >= self._claim_idle_s:
                    return  # this process hung: what is left is another's by now, or comes again
                if worked_s >= self._hold_s:
                    await self._inbox.acknowledge(delivered)
                    delivered.clear()
                    asked = time.monotonic()
                    if asked - since >= self._claim_idle_s:
                        return  # the acknowledgement waited for Redis as long
                    held = set(await self._inbox.hold([each.id for each in entries[at:]]))
                    since = asked
                if entry.id not in held:
                    continue
                if await self._hand_over(entry) is Outcome.DELIVERED:
                    delivered.append(entry.id)
        finally:
            if delivered:
                await self._inbox.acknowledge(delivered)

    async def _hand_over(self, entry: Entry) -> Outcome:
        try:
            notification = notification_from_json(entry.payload)
        except UnreadableEntryError as error:
            figures.DEAD.labels("unreadable").inc()
            return await self._courier.give_up(entry, error.message)
        ids = {"trace_id": notification.trace_id, "run_id": notification.run_id, "session_id": notification.session_id}
        attributes = {
            "messaging.system": "redis",
            "messaging.message.id": entry.id,
            "pagi.trace_id": notification.trace_id,
        }
        with (
            correlation.bind(**ids),
            telemetry.attach({"traceparent": notification.traceparent} if notification.traceparent else {}),
            telemetry.span("deliver notification", kind="consumer", attributes=attributes),
        ):
            outcome = await self._courier.deliver(entry, notification)
        self._count(outcome, entry, notification)
        return outcome

    def _count(self, outcome: Outcome, entry: Entry, notification: Notification) -> None:
        if outcome is Outcome.DELIVERED:
            figures.DELIVERED.labels(self._channel, notification.status.value).inc()
            figures.DELAY.observe(max(0.0, time.time() - entry.published_s))
        elif outcome is Outcome.FAILED:
            figures.FAILED.labels(self._channel).inc()
        else:
            figures.DEAD.labels("undeliverable").inc()

    async def _upkeep(self) -> None:
        figures.show_backlog(await self._inbox.backlog())
        if time.monotonic() >= self._next_forget:
            await self._inbox.forget(self._keep_s)
            self._next_forget = time.monotonic() + FORGET_S
        await asyncio.sleep(UPKEEP_S)
