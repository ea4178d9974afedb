"""The inbox on a Redis stream with a consumer group (Redis 7 or Valkey)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from pagi_notifier.adapters.redis_server import RedisServer
from pagi_notifier.domain.errors import InboxUnavailableError
from pagi_notifier.domain.model import Backlog, Entry

log = logging.getLogger(__name__)

LEAVE_S = 1.0

_Fields = dict[bytes, bytes]


class RedisInbox:
    """Reads a stream as one consumer of a group. While Redis is away every call waits for it.

    The group is made from the beginning of the stream, so that what was published before the first start
    arrives; it is made again where Redis lost it.

    Args:
        server: The connection.
        stream: Key of the stream; dead letters go to `<stream>:dead`.
        group: The consumer group.
        consumer: This consumer's name in it, its own among all that live.
        claim_idle_s: Seconds of silence after which another consumer's entry may be taken over.
    """

    def __init__(self, server: RedisServer, *, stream: str, group: str, consumer: str, claim_idle_s: float) -> None:
        self._server = server
        self._stream = stream
        self._dead = f"{stream}:dead"
        self._group = group
        self._consumer = consumer
        self._claim_idle_ms = max(1, int(claim_idle_s * 1000))

    async def receive(self, limit: int, wait_s: float) -> list[Entry]:
        """See `Inbox`."""
        block = int(wait_s * 1000) or None  # BLOCK 0 would wait for ever
        answer = await self._call(
            lambda redis: redis.xreadgroup(self._group, self._consumer, {self._stream: ">"}, count=limit, block=block)
        )
        found = answer[0][1] if answer else []
        return [_entry(id_, fields, 1) for id_, fields in found]

    async def take_over(self) -> Entry | None:
        """See `Inbox`. It may be one of this consumer whose delivery failed, once it is due."""
        while silent := await self._call(
            lambda redis: redis.xpending_range(
                self._stream, self._group, min="-", max="+", count=1, idle=self._claim_idle_ms
            )
        ):
            id_, attempt = silent[0]["message_id"], silent[0]["times_delivered"]
            for taken, fields in await self._call(partial(self._take, id_, attempt)):
                return _entry(taken, fields, attempt)
            # Another was first, or it was deleted from the stream: then it is pending no more.
        return None

    async def count_failure(self, entry: Entry) -> None:
        """See `Inbox`. What another holds by now is left to it."""
        await self._call(lambda redis: self._claim_own(redis, [entry.id], retrycount=entry.deliveries + 1))

    async def hold(self, ids: Sequence[str]) -> list[str]:
        """See `Inbox`."""
        held: list[str] = await self._call(lambda redis: self._claim_own(redis, ids))
        return held

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """See `Inbox`."""
        if ids:
            await self._call(lambda redis: redis.xack(self._stream, self._group, *ids))

    async def bury(self, entry: Entry, reason: str) -> None:
        """See `Inbox`. A connection lost midway may leave the entry in the dead letters twice, never nowhere."""

        async def move(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as steps:
                steps.xadd(
                    self._dead,
                    {"payload": entry.payload, "reason": reason, "entry": entry.id, "deliveries": entry.deliveries},
                )
                steps.xack(self._stream, self._group, entry.id)
                await steps.execute()

        await self._call(move)

    async def backlog(self) -> Backlog:
        """See `Inbox`."""
        groups = await self._call(lambda redis: redis.xinfo_groups(self._stream))
        own = next((group for group in groups if group["name"] == self._group.encode()), None)
        dead = await self._call(lambda redis: redis.xlen(self._dead))
        if own is None:
            return Backlog(pending=0, unread=None, dead=dead)
        return Backlog(pending=own["pending"], unread=own.get("lag"), dead=dead)

    async def forget(self, older_than_s: float) -> int:
        """See `Inbox`. Groups of other readers of the same stream are waited for too."""
        groups = await self._call(lambda redis: redis.xinfo_groups(self._stream))
        seconds, _ = await self._call(lambda redis: redis.time())
        keep = [(int((seconds - older_than_s) * 1000), 0)]
        for group in groups:
            name, pending = group["name"], group["pending"]
            if pending:
                keep.append(_position(await self._oldest_pending(name) or group["last-delivered-id"]))
            else:
                keep.append(_position(group["last-delivered-id"]))
        milliseconds, sequence = min(keep)
        oldest = f"{milliseconds}-{sequence}"
        return int(await self._call(lambda redis: redis.xtrim(self._stream, minid=oldest, approximate=False)))

    async def start(self) -> None:
        """Nothing: the first call connects, and waits where Redis is away."""

    async def stop(self) -> None:
        """Leaves the group and closes the connections."""
        with suppress(TimeoutError, InboxUnavailableError):  # Redis is away: a name stays behind, no entry is lost
            async with asyncio.timeout(LEAVE_S):
                await self._leave()
        await self._server.close()

    async def _leave(self) -> None:
        """Removes this consumer from the group if it holds nothing. One that holds something stays for its heirs."""
        consumers = await self._call(lambda redis: redis.xinfo_consumers(self._stream, self._group))
        if any(each["name"] == self._consumer.encode() and not each["pending"] for each in consumers):
            await self._call(lambda redis: redis.xgroup_delconsumer(self._stream, self._group, self._consumer))

    async def _oldest_pending(self, group: bytes) -> bytes | None:
        summary = await self._call(lambda redis: redis.xpending(self._stream, group))
        oldest: bytes | None = summary["min"]
        return oldest

    async def _take(self, id_: bytes, attempt: int, redis: Redis) -> Any:
        """Takes one entry over, if it is still silent.

        Redis counts takes, and counts the first one too, in which an entry may not have been tried: so what it holds is
        one more than the attempts that have begun.
        """
        return await redis.xclaim(
            self._stream, self._group, self._consumer, self._claim_idle_ms, [id_], retrycount=attempt + 1
        )

    async def _claim_own(self, redis: Redis, ids: Sequence[str], *, retrycount: int | None = None) -> list[str]:
        """Has the claim time of those that it holds begin anew; returns them. JUSTID leaves their count as it is."""
        async with redis.pipeline(transaction=False) as steps:
            for id_ in ids:
                steps.xpending_range(self._stream, self._group, min=id_, max=id_, count=1, consumername=self._consumer)
            answers = await steps.execute()
        if not (own := [row for rows in answers for row in rows]):
            return []
        # XCLAIM takes from anybody; what another takes over just now is idle for less than it was.
        idle_ms = min(row["time_since_delivered"] for row in own)
        held = [row["message_id"] for row in own]
        claimed: Any = await redis.xclaim(
            self._stream, self._group, self._consumer, idle_ms, held, retrycount=retrycount, justid=True
        )
        return [id_.decode() for id_ in claimed]

    async def _call(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:
        """Runs a command, after making the group where it is missing.

        Raises:
            InboxUnavailableError: Redis refuses.
        """
        try:
            try:
                return await self._server.call(command)
            except ResponseError as error:
                if not str(error).startswith(("NOGROUP", "no such key")):
                    raise
            await self._make_group()
            return await self._server.call(command)
        except ResponseError as error:
            raise InboxUnavailableError(f"Redis at {self._server.address} refuses {self._stream}: {error}") from error

    async def _make_group(self) -> None:
        try:
            await self._server.call(
                lambda redis: redis.xgroup_create(self._stream, self._group, id="0-0", mkstream=True)
            )
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another subscriber was first
                raise
        else:
            log.info("made the consumer group %s on %s", self._group, self._stream)


def _entry(id_: bytes, fields: _Fields, deliveries: int) -> Entry:
    return Entry(id_.decode(), fields.get(b"payload", b""), deliveries, _position(id_)[0] / 1000)


def _position(id_: bytes) -> tuple[int, int]:
    """An entry's id as milliseconds and sequence, which sort as the stream does."""
    milliseconds, _, sequence = id_.decode().partition("-")
    return int(milliseconds), int(sequence)
