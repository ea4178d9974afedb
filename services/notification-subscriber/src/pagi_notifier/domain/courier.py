"""One attempt to deliver one entry, and the decision about what then becomes of it."""

from __future__ import annotations

import asyncio
import logging

from pagi_notifier.domain.errors import DeliveryError
from pagi_notifier.domain.model import Entry, Notification, Outcome
from pagi_notifier.domain.ports import Channel, Inbox

log = logging.getLogger(__name__)


class Courier:
    """Delivers entries through a channel, each a bounded number of times.

    Args:
        channel: Where notifications go.
        inbox: Where entries come from; what is given up is buried there.
        max_deliveries: How often an entry is tried before it is given up.
        timeout_s: How long one attempt may take, in seconds.
    """

    def __init__(self, channel: Channel, inbox: Inbox, *, max_deliveries: int, timeout_s: float) -> None:
        self._channel = channel
        self._inbox = inbox
        self._max_deliveries = max_deliveries
        self._timeout_s = timeout_s

    async def deliver(self, entry: Entry, notification: Notification) -> Outcome:
        """Tries once. The caller acknowledges what was delivered; what failed stays in the inbox.

        Raises:
            InboxUnavailableError: It failed, and the inbox cannot be written.
        """
        if entry.deliveries > self._max_deliveries:
            # Whoever took it, alone, neither delivered nor gave it up: it may be what killed them.
            return await self.give_up(entry, f"taken {entry.deliveries - 1} times and never finished")
        reason = await self._attempt(notification)
        if not reason:
            return Outcome.DELIVERED
        if entry.deliveries >= self._max_deliveries:
            return await self.give_up(entry, f"delivery failed {entry.deliveries} times, at last: {reason}")
        await self._inbox.count_failure(entry)
        log.warning(
            "delivery of %s by %s failed (attempt %d of %d), it is tried again: %s",
            entry.id,
            self._channel.name,
            entry.deliveries,
            self._max_deliveries,
            reason,
        )
        return Outcome.FAILED

    async def give_up(self, entry: Entry, reason: str) -> Outcome:
        """Moves an entry to the dead letters, so that it does not hold up the rest."""
        await self._inbox.bury(entry, reason)
        log.error("notification %s is given up: %s", entry.id, reason, extra={"entry": entry.id})
        return Outcome.DEAD

    async def _attempt(self, notification: Notification) -> str:
        """Delivers; returns why it failed, or nothing."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._channel.deliver(notification)
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s"
        except DeliveryError as error:
            return error.message
        except Exception as error:
            # A fault in a channel is met by one notification, perhaps; the others are still to be delivered.
            log.exception("channel %s failed in a way that it should not", self._channel.name)
            return f"{type(error).__name__} in channel {self._channel.name}"
        return ""
