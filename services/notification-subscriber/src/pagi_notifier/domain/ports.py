"""What delivery needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pagi_notifier.domain.model import Backlog, Entry, Notification


class Channel(Protocol):
    """A way to reach a person or a system."""

    @property
    def name(self) -> str:
        """Names the channel in metrics and logs."""

    async def deliver(self, notification: Notification) -> None:
        """Delivers one notification; returns when it has arrived.

        The same notification may come twice: after a crash between delivery and acknowledgement.

        Raises:
            DeliveryError: It did not arrive.
        """


class Inbox(Protocol):
    """Notifications that wait, shared by a group of consumers. Each entry is held by one consumer at a time.

    Every method may raise InboxUnavailableError.
    """

    async def receive(self, limit: int, wait_s: float) -> list[Entry]:
        """Takes at most `limit` entries that nobody has taken, oldest first; waits up to `wait_s` for one."""

    async def take_over(self) -> Entry | None:
        """Takes the oldest entry whose consumer has been silent about it for the claim time, to be tried at once.

        One alone: each take counts as an attempt, and what may kill its consumer must not have others counted.
        """

    async def count_failure(self, entry: Entry) -> None:
        """Has the next attempt at an entry that this consumer holds count as one more."""

    async def hold(self, ids: Sequence[str]) -> Sequence[str]:
        """Says that this consumer is still at work on entries that it took: their claim time begins anew.

        Returns those that it still holds; what another took over is left to it.
        """

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Marks entries as delivered."""

    async def bury(self, entry: Entry, reason: str) -> None:
        """Moves an entry to the dead letters and acknowledges it, in one step."""

    async def backlog(self) -> Backlog:
        """Counts what is not delivered."""

    async def forget(self, older_than_s: float) -> int:
        """Deletes entries older than this that every group has acknowledged; returns how many."""
