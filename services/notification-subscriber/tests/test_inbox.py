"""What any inbox does: one suite for the one in memory and the one on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

import pytest
from pagi_notifier.adapters.redis_inbox import RedisInbox
from pagi_notifier.domain.model import Backlog, Entry
from pagi_notifier.domain.ports import Inbox
from pagi_notifier.testing import InMemoryInbox, InMemoryStream, notification_json, until
from redis.asyncio import Redis

CLAIM_IDLE_S = 0.15

if TYPE_CHECKING:
    from conftest import Valkey


class World(Protocol):
    """What a test needs around an inbox."""

    async def publish(self, payload: bytes) -> str: ...
    def inbox(self, consumer: str) -> Inbox: ...
    async def fall_silent(self) -> None: ...
    async def dead(self) -> list[dict[str, str]]: ...
    async def length(self) -> int: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._stream = InMemoryStream(now_s=1_700_000_000.0)

    async def publish(self, payload: bytes) -> str:
        return self._stream.publish(payload)

    def inbox(self, consumer: str) -> Inbox:
        return InMemoryInbox(self._stream, consumer, claim_idle_s=CLAIM_IDLE_S)

    async def fall_silent(self) -> None:
        self._stream.now_s += CLAIM_IDLE_S * 2

    async def dead(self) -> list[dict[str, str]]:
        return self._stream.dead

    async def length(self) -> int:
        return len(self._stream.entries)


class ValkeyWorld:
    def __init__(self, server: Valkey, redis: Redis) -> None:
        self._server = server
        self._redis = redis
        self.inboxes: list[RedisInbox] = []

    async def publish(self, payload: bytes) -> str:
        return (await self._redis.xadd(self._server.stream, {"payload": payload})).decode()

    def inbox(self, consumer: str) -> Inbox:
        inbox = self._server.inbox(consumer, claim_idle_s=CLAIM_IDLE_S)
        self.inboxes.append(inbox)
        return inbox

    async def fall_silent(self) -> None:
        async def all_idle() -> bool:
            rows = await self._redis.xpending_range(
                self._server.stream, self._server.group, min="-", max="+", count=100
            )
            return bool(rows) and all(row["time_since_delivered"] > CLAIM_IDLE_S * 1000 for row in rows)

        await until(all_idle)

    async def dead(self) -> list[dict[str, str]]:
        rows = await self._redis.xrange(f"{self._server.stream}:dead")
        return [{key.decode(): value.decode() for key, value in fields.items()} for _, fields in rows]

    async def length(self) -> int:
        return int(await self._redis.xlen(self._server.stream))


@pytest.fixture
def memory_world() -> MemoryWorld:
    return MemoryWorld()


@pytest.fixture
async def valkey_world(valkey_server: Valkey, redis: Redis) -> AsyncIterator[ValkeyWorld]:
    world = ValkeyWorld(valkey_server, redis)
    yield world
    for inbox in world.inboxes:
        await inbox.stop()


@pytest.fixture(params=["memory_world", "valkey_world"])
def world(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)


def ids(entries: list[Entry]) -> list[str]:
    return [entry.id for entry in entries]


async def taken_over(inbox: Inbox) -> list[tuple[str, int]]:
    """All that may be taken over, with the attempts that they are."""
    found: list[tuple[str, int]] = []
    while entry := await inbox.take_over():
        found.append((entry.id, entry.deliveries))
    return found


async def test_what_was_published_before_the_first_start_arrives_in_order(world: World) -> None:
    published = [await world.publish(notification_json(number)) for number in range(5)]
    inbox = world.inbox("a")
    assert ids(await inbox.receive(3, 0)) == published[:3]
    assert ids(await inbox.receive(3, 0)) == published[3:]
    assert await inbox.receive(3, 0) == []


async def test_receive_waits_for_what_comes(world: World) -> None:
    inbox = world.inbox("a")
    assert await inbox.receive(1, 0) == []
    waiting = asyncio.create_task(inbox.receive(1, 1.9))
    published = await world.publish(notification_json())
    assert ids(await waiting) == [published]


async def test_consumers_of_a_group_share_the_entries(world: World) -> None:
    published = [await world.publish(notification_json(number)) for number in range(2)]
    assert ids(await world.inbox("a").receive(1, 0)) == published[:1]
    assert ids(await world.inbox("b").receive(9, 0)) == published[1:]


async def test_only_what_is_acknowledged_leaves_the_pending(world: World) -> None:
    inbox = world.inbox("a")
    first, _ = [await world.publish(notification_json(number)) for number in range(2)]
    await world.publish(notification_json(3))
    await inbox.receive(2, 0)
    await inbox.acknowledge([first])
    assert await inbox.backlog() == Backlog(pending=1, unread=1, dead=0)
    await inbox.acknowledge([])


async def test_a_silent_consumers_entries_are_taken_over_and_counted(world: World) -> None:
    published = [await world.publish(notification_json(number)) for number in range(3)]
    dead, heir = world.inbox("dead"), world.inbox("heir")
    await dead.receive(3, 0)
    await dead.acknowledge(published[:1])
    await world.fall_silent()
    first = await heir.take_over()
    assert first
    assert (first.id, first.deliveries, first.payload) == (published[1], 1, notification_json(1))
    assert await taken_over(heir) == [(published[2], 1)]
    for attempt in (2, 3):
        await world.fall_silent()
        assert await taken_over(dead) == [(published[1], attempt), (published[2], attempt)]


async def test_what_is_held_by_the_living_is_not_taken(world: World) -> None:
    await world.publish(notification_json())
    await world.inbox("a").receive(1, 0)
    assert await world.inbox("b").take_over() is None


async def test_what_is_held_anew_is_not_taken_and_counts_as_no_attempt(world: World) -> None:
    published = [await world.publish(notification_json(number)) for number in range(2)]
    inbox, other = world.inbox("a"), world.inbox("b")
    await inbox.receive(2, 0)
    await world.fall_silent()
    await inbox.hold(published[1:])
    assert await taken_over(other) == [(published[0], 1)]
    await world.fall_silent()
    assert await taken_over(other) == [(published[0], 2), (published[1], 1)]


async def test_only_what_is_still_ones_own_is_held_anew(world: World) -> None:
    published = [await world.publish(notification_json(number)) for number in range(3)]
    slow, heir = world.inbox("slow"), world.inbox("heir")
    await slow.receive(3, 0)
    assert await slow.hold(published) == published
    await slow.acknowledge(published[2:])
    await world.fall_silent()
    taken = await heir.take_over()
    assert taken
    assert await slow.hold(published) == published[1:2]
    await world.fall_silent()
    assert await taken_over(slow) == [(published[0], 2), (published[1], 1)]


async def test_a_failed_entry_of_ones_own_comes_back(world: World) -> None:
    published = await world.publish(notification_json())
    inbox = world.inbox("a")
    [entry] = await inbox.receive(1, 0)
    for attempt in (2, 3, 4):
        await inbox.count_failure(entry)
        assert await inbox.take_over() is None, "its time begins with its failure"
        await world.fall_silent()
        again = await inbox.take_over()
        assert again
        assert (again.id, again.deliveries) == (published, attempt)
        entry = again


async def test_who_was_overtaken_counts_no_failure(world: World) -> None:
    published = await world.publish(notification_json())
    slow, heir = world.inbox("slow"), world.inbox("heir")
    [entry] = await slow.receive(1, 0)
    await world.fall_silent()
    assert await taken_over(heir) == [(published, 1)]
    await slow.count_failure(entry)
    await world.fall_silent()
    assert await taken_over(slow) == [(published, 2)]
    await heir.count_failure(entry)
    await heir.acknowledge([published])
    await slow.count_failure(entry)
    assert await heir.backlog() == Backlog(pending=0, unread=0, dead=0)


async def test_one_that_was_deleted_holds_up_nobody(valkey_world: ValkeyWorld, redis: Redis) -> None:
    first, second = [await valkey_world.publish(notification_json(number)) for number in range(2)]
    await valkey_world.inbox("dead").receive(2, 0)
    await redis.xdel("test:notifications", first)
    await valkey_world.fall_silent()
    assert await taken_over(valkey_world.inbox("heir")) == [(second, 1)]


async def test_buried_entries_are_kept_aside_and_come_no_more(world: World) -> None:
    published = await world.publish(notification_json())
    inbox = world.inbox("a")
    [entry] = await inbox.receive(1, 0)
    await inbox.bury(entry, "nobody listens")
    assert await inbox.backlog() == Backlog(pending=0, unread=0, dead=1)
    [letter] = await world.dead()
    assert letter["entry"] == published
    assert letter["payload"] == notification_json().decode()
    assert letter["reason"] == "nobody listens"


async def test_forget_deletes_nothing_that_is_pending_or_unread(world: World) -> None:
    published = [await world.publish(notification_json(number)) for number in range(4)]
    inbox = world.inbox("a")
    await inbox.receive(3, 0)
    await inbox.acknowledge([published[0], published[2]])
    assert await inbox.forget(-60) == 1  # entries up to a minute in the future count as old
    assert await world.length() == 3
    await inbox.acknowledge([published[1]])
    assert ids(await inbox.receive(9, 0)) == published[3:]
    await inbox.forget(-60)
    assert await inbox.backlog() == Backlog(pending=1, unread=0, dead=0)


async def test_forget_keeps_what_is_young(world: World) -> None:
    published = [await world.publish(notification_json(number)) for number in range(2)]
    inbox = world.inbox("a")
    await inbox.receive(2, 0)
    await inbox.acknowledge(published)
    assert await inbox.forget(60) == 0
    assert await world.length() == 2
