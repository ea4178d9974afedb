"""Fakes of the ports: an inbox in memory that keeps the real one's rules, and a channel that records or fails."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pagi_notifier.domain.errors import DeliveryError
from pagi_notifier.domain.model import Backlog, Entry, Notification


@dataclass
class _Held:
    consumer: str
    since_s: float
    attempts: int  # that began for certain


@dataclass
class InMemoryStream:
    """What several `InMemoryInbox` of one group share. `now_s` moves only when a test moves it."""

    now_s: float = 0.0
    entries: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    dead: list[dict[str, str]] = field(default_factory=list)
    published: int = 0

    def publish(self, payload: bytes) -> str:
        """Appends an entry and returns its id."""
        self.published += 1
        id_ = f"{int(self.now_s * 1000)}-{self.published}"
        self.entries[id_] = payload
        return id_


class InMemoryInbox:
    """One consumer of an `InMemoryStream`."""

    def __init__(self, stream: InMemoryStream, consumer: str, *, claim_idle_s: float) -> None:
        self._stream = stream
        self._consumer = consumer
        self._claim_idle_s = claim_idle_s

    async def receive(self, limit: int, wait_s: float) -> list[Entry]:
        """See `Inbox`; looks again every millisecond."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            if new := [id_ for id_ in self._stream.entries if id_ not in self._stream.taken][:limit]:
                self._stream.taken.update(new)
                return [self._take(id_) for id_ in new]
            if asyncio.get_running_loop().time() >= deadline:
                return []
            await asyncio.sleep(0.001)

    async def take_over(self) -> Entry | None:
        """See `Inbox`."""
        for id_ in self._stream.entries:
            held = self._stream.held.get(id_)
            if held and self._is_silent(held):
                return self._take(id_, held.attempts + 1)
        return None

    async def count_failure(self, entry: Entry) -> None:
        """See `Inbox`."""
        if await self.hold([entry.id]):
            self._stream.held[entry.id].attempts = entry.deliveries

    async def hold(self, ids: Sequence[str]) -> list[str]:
        """See `Inbox`."""
        own = [id_ for id_ in ids if self._holds(id_)]
        for id_ in own:
            self._stream.held[id_].since_s = self._stream.now_s
        return own

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """See `Inbox`."""
        for id_ in ids:
            self._stream.held.pop(id_, None)

    async def bury(self, entry: Entry, reason: str) -> None:
        """See `Inbox`."""
        self._stream.dead.append({"entry": entry.id, "payload": entry.payload.decode(), "reason": reason})
        await self.acknowledge([entry.id])

    async def backlog(self) -> Backlog:
        """See `Inbox`."""
        unread = len(self._stream.entries.keys() - self._stream.taken)
        return Backlog(pending=len(self._stream.held), unread=unread, dead=len(self._stream.dead))

    async def forget(self, older_than_s: float) -> int:
        """See `Inbox`. As in a stream, what follows an entry that must stay stays too."""
        gone: list[str] = []
        for id_ in self._stream.entries:
            published_s = int(id_.partition("-")[0]) / 1000
            young = published_s > self._stream.now_s - older_than_s
            if young or id_ in self._stream.held or id_ not in self._stream.taken:
                break
            gone.append(id_)
        # The last entry that was delivered marks the group's place and stays, as Redis' XTRIM MINID leaves it.
        gone = gone[:-1] if len(gone) == len(self._stream.taken) else gone
        for id_ in gone:
            del self._stream.entries[id_]
            self._stream.taken.discard(id_)
        return len(gone)

    def _holds(self, id_: str) -> bool:
        held = self._stream.held.get(id_)
        return held is not None and held.consumer == self._consumer

    def _is_silent(self, held: _Held) -> bool:
        return held.since_s <= self._stream.now_s - self._claim_idle_s

    def _take(self, id_: str, attempt: int = 0) -> Entry:
        """Attempt 0: one of many that are new; who dies then has not tried them for certain."""
        self._stream.held[id_] = _Held(self._consumer, self._stream.now_s, attempt)
        return Entry(id_, self._stream.entries[id_], attempt or 1, int(id_.partition("-")[0]) / 1000)


class RecordingChannel:
    """Keeps what it is given; `delivered` grows by one for each.

    Args:
        refuse: Called with each notification before it is kept; a text is the reason to fail.
    """

    name = "recording"

    def __init__(self, refuse: Callable[[Notification], str] = lambda _: "") -> None:
        self.delivered: list[Notification] = []
        self.refuse = refuse

    async def deliver(self, notification: Notification) -> None:
        """See `Channel`."""
        if reason := self.refuse(notification):
            raise DeliveryError(reason)
        self.delivered.append(notification)


def notification_json(number: int = 1, *, status: str = "COMPLETED", **members: str) -> bytes:
    """What a publisher writes; each number has a trace and a run of its own."""
    ids = {"trace_id": f"{number:032x}", "run_id": f"run-{number}", "session_id": "s1"}
    return json.dumps({**ids, "status": status, **members}).encode()


async def until(condition: Callable[[], object], *, within_s: float = 15.0) -> None:
    """Waits for a condition (a function, async or not), looking often.

    Raises:
        TimeoutError: It did not come true in time.
    """
    async with asyncio.timeout(within_s):
        while True:
            answer = condition()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await asyncio.sleep(0.005)
