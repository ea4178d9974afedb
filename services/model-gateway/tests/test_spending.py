"""The counters of budgets: one suite for the fake, SQLite and a real Valkey; what only a file or a server can show."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pagi_gateway.adapters.redis_spending import RedisSpending
from pagi_gateway.adapters.sqlite_file import SqliteFile
from pagi_gateway.adapters.sqlite_spending import SqliteSpending
from pagi_gateway.domain.budgets import Amounts, Claim, Limits
from pagi_gateway.domain.errors import BudgetStoreError
from pagi_gateway.domain.ports import BudgetStore
from pagi_gateway.testing import InMemorySpending

UNIQUE = itertools.count()


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def claim(limits: Limits, name: str = "") -> Claim:
    name = name or f"b{next(UNIQUE)}"
    return Claim(f"{name}|tenant|2030|a|c:m e", name, limits, time.time() + 86_400)


@asynccontextmanager
async def sqlite_spending(
    folder: Path, clock: Clock | None = None, *, most_counters: int = 4096
) -> AsyncIterator[SqliteSpending]:
    file = SqliteFile(folder / "gateway.db", variable="MODEL_GATEWAY_DB_PATH")
    store = SqliteSpending(file, now=clock or Clock(), most_counters=most_counters)
    await file.start()
    try:
        await store.start()
        yield store
    finally:
        await store.stop()
        await file.stop()


@asynccontextmanager
async def redis_spending(
    url: str, clock: Clock | None = None, *, answer_s: float = 2.0
) -> AsyncIterator[RedisSpending]:
    store = RedisSpending(url, now=clock or Clock(), answer_s=answer_s)
    try:
        yield store
    finally:
        await store.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["fake", "sqlite", "valkey"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[BudgetStore]:
    if request.param == "fake":
        yield InMemorySpending(now=clock)
    elif request.param == "sqlite":
        async with sqlite_spending(tmp_path, clock) as spending:
            yield spending
    else:
        async with redis_spending(request.getfixturevalue("valkey_url"), clock) as spending:
            yield spending


class Calls:
    """Makes calls at a store."""

    def __init__(self, store: BudgetStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._me = next(UNIQUE)

    async def reserve(self, call: str, claims: list[Claim], asked: Amounts, lease_s: float = 60) -> object:
        return await self.store.reserve(f"{self._me}-{call}", claims, asked, now=self.clock(), lease_s=lease_s)

    async def settle(self, call: str, claims: list[Claim], asked: Amounts, used: Amounts) -> None:
        if (settling := self.store.settle(f"{self._me}-{call}", claims, asked, used)) is not None:
            await settling


async def test_what_fits_is_set_aside_and_settled_by_what_was_used(store: BudgetStore, clock: Clock) -> None:
    calls, day = Calls(store, clock), claim(Limits(1000, None, 2))
    asked = Amounts(600, 50, 1)
    assert await store.counted(day) == (Amounts(), Amounts())
    assert await calls.reserve("a", [day], asked) is None
    assert await store.counted(day) == (Amounts(), asked)
    assert await calls.reserve("b", [day], asked) == (day, 0, 0, 600)
    await calls.settle("a", [day], asked, Amounts(400, 30, 1))
    assert await store.counted(day) == (Amounts(400, 30, 1), Amounts())
    assert await calls.reserve("b", [day], asked) is None
    assert await calls.reserve("c", [day], Amounts(0, 0, 1)) == (day, 2, 1, 1)
    await calls.settle("b", [day], asked, Amounts(700, 90, 1))
    # More than was set aside counts all the same.
    assert await store.counted(day) == (Amounts(1100, 120, 2), Amounts())


async def test_all_counters_have_enough_or_nothing_is_set_aside(store: BudgetStore, clock: Clock) -> None:
    calls = Calls(store, clock)
    wide, narrow = claim(Limits(None, 1000, None)), claim(Limits(None, 10, None))
    assert await calls.reserve("a", [wide, narrow], Amounts(0, 11, 1)) == (narrow, 1, 0, 0)
    assert await store.counted(wide) == (Amounts(), Amounts())
    assert await calls.reserve("a", [wide, narrow], Amounts(0, 10, 1)) is None
    assert await store.counted(wide) == (Amounts(), Amounts(0, 10, 1))


async def test_a_call_that_dies_is_released_after_its_lease_and_counts_if_it_settles_late(
    store: BudgetStore, clock: Clock
) -> None:
    calls, day = Calls(store, clock), claim(Limits(100, None, None))
    asked = Amounts(60, 6, 1)
    assert await calls.reserve("long", [day], Amounts(1, 1, 1), lease_s=100) is None
    assert await calls.reserve("dead", [day], asked, lease_s=10) is None
    clock.now += 9.5
    assert await calls.reserve("next", [day], asked) is not None
    clock.now += 1
    assert await calls.reserve("next", [day], asked) is None
    assert await store.counted(day) == (Amounts(), Amounts(61, 7, 2))
    await calls.settle("dead", [day], asked, Amounts(50, 5, 1))
    assert await store.counted(day) == (Amounts(50, 5, 1), Amounts(61, 7, 2))


async def test_large_amounts_are_exact(store: BudgetStore, clock: Clock) -> None:
    calls, month = Calls(store, clock), claim(Limits(9_000_000 * 10**9, None, None))
    for number in range(3):
        await calls.reserve(str(number), [month], Amounts(10**15 + 1, 0, 1))
        await calls.settle(str(number), [month], Amounts(10**15 + 1, 0, 1), Amounts(10**15 + 1, 0, 1))
    assert await store.counted(month) == (Amounts(3 * 10**15 + 3, 0, 3), Amounts())


STEPS = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.just(1)),
        st.floats(0, 1),
        st.sampled_from([0.0, 0.0, 1.0, 30.0]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
async def test_no_order_of_calls_spends_more_than_there_is(
    store: BudgetStore, clock: Clock, steps: list[tuple[int, tuple[int, int, int], float, float]]
) -> None:
    """Calls begin, end and die in any order; in each step the counters agree with a list of what happened."""
    calls, claims = Calls(store, clock), [claim(Limits(100, 150, 12)), claim(Limits(80, None, None))]
    alive: dict[int, tuple[str, Amounts, float]] = {}
    spent = Amounts()
    for slot, amounts, share, pause in steps:
        clock.now += pause
        alive = {number: call for number, call in alive.items() if call[2] > clock.now}
        if slot in alive:
            call, asked, _ = alive.pop(slot)
            used = Amounts(*(int(amount * share) for amount in asked[:2]), 1)
            await calls.settle(call, claims, asked, used)
            spent = Amounts(*map(sum, zip(spent, used, strict=True)))
        else:
            asked, call = Amounts(*amounts), f"call-{next(UNIQUE)}"
            held = [sum(each[1][kind] for each in alive.values()) for kind in range(3)]
            fits = all(
                limit is None or spent[kind] + held[kind] + asked[kind] <= limit
                for each in claims
                for kind, limit in enumerate(each.limits)
            )
            assert (await calls.reserve(call, claims, asked) is None) == fits
            if fits:
                alive[slot] = (call, asked, clock.now + 60)
        held_now = Amounts(*(sum(each[1][kind] for each in alive.values()) for kind in range(3)))
        for each in claims:
            assert await store.counted(each) == (spent, held_now)
            for kind, limit in enumerate(each.limits):
                assert limit is None or spent[kind] + held_now[kind] <= limit


async def test_200_calls_at_once_spend_no_more_than_there_is(store: BudgetStore, clock: Clock) -> None:
    calls, day = Calls(store, clock), claim(Limits(1000, None, None))
    asked, random_ = Amounts(20, 5, 1), random.Random(7)

    async def call(number: int) -> int:
        if await calls.reserve(f"c{number}", [day], asked) is not None:
            return 0
        await asyncio.sleep(random_.random() / 100)
        used = random_.randrange(1, 21)
        await calls.settle(f"c{number}", [day], asked, Amounts(used, 5, 1))
        return used

    spent = await asyncio.gather(*map(call, range(200)))
    total, held = await store.counted(day)
    assert total.usd_nano == sum(spent) <= 1000
    assert (total.requests, held) == (sum(1 for each in spent if each), Amounts())
    assert sum(1 for each in spent if each) >= 50


# Only SQLite.


async def test_what_was_spent_survives_a_restart_and_what_was_set_aside_does_not(tmp_path: Path) -> None:
    clock, day = Clock(), claim(Limits(100, None, None))
    async with sqlite_spending(tmp_path, clock) as store:
        calls = Calls(store, clock)
        for call in ("a", "b"):
            await calls.reserve(call, [day], Amounts(40, 4, 1))
        await calls.settle("a", [day], Amounts(40, 4, 1), Amounts(30, 3, 1))
    async with sqlite_spending(tmp_path, clock) as store:
        assert await store.counted(day) == (Amounts(30, 3, 1), Amounts())
        assert await Calls(store, clock).reserve("c", [day], Amounts(71, 0, 1)) is not None


async def test_counters_that_nobody_uses_leave_the_memory_and_come_back(tmp_path: Path) -> None:
    clock, claims = Clock(), [claim(Limits(1000, None, None)) for _ in range(50)]
    asked = Amounts(10, 1, 1)
    async with sqlite_spending(tmp_path, clock, most_counters=8) as store:
        calls = Calls(store, clock)
        await calls.reserve("held", [claims[0]], asked)
        for turn in range(3):
            for number, each in enumerate(claims):
                await calls.reserve(f"{turn}-{number}", [each], asked)
                await calls.settle(f"{turn}-{number}", [each], asked, asked)
            await store._file.flushed()
        await calls.reserve("last", [claims[9]], asked)
        assert len(store._counters) <= 12
        assert claims[0].counter in store._counters
        for each in claims[1:9]:
            assert await store.counted(each) == (Amounts(30, 3, 3), Amounts())
        # One whose lease is over may have left; it settles all the same.
        clock.now += 3600
        assert await store.counted(claims[0]) == (Amounts(30, 3, 3), Amounts())
        del store._counters[claims[0].counter]
        await calls.settle("held", [claims[0]], asked, asked)
        assert await store.counted(claims[0]) == (Amounts(40, 4, 4), Amounts())


# Only Redis.


async def test_a_call_is_settled_once_however_often_it_is_tried(valkey_url: str) -> None:
    clock, day = Clock(), claim(Limits(100, None, None))
    async with redis_spending(valkey_url, clock) as store:
        calls = Calls(store, clock)
        await calls.reserve("once", [day], Amounts(10, 1, 1))
        for _ in range(3):
            await calls.settle("once", [day], Amounts(10, 1, 1), Amounts(7, 1, 1))
        assert await store.counted(day) == (Amounts(7, 1, 1), Amounts())
        ttl = await store._redis.ttl(f"pagi:{{budgets}}:{day.counter}")
        assert 86_000 < ttl < 91_000


async def test_a_server_that_is_away_is_told_and_what_was_used_is_counted_when_it_is_back(valkey_url: str) -> None:
    clock, day = Clock(), claim(Limits(100, None, None))
    port = int(valkey_url.rpartition(":")[2].partition("/")[0])
    door = Door(port)
    async with await asyncio.start_server(door.pass_on, "127.0.0.1", 0) as listener:
        url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
        async with redis_spending(url, clock, answer_s=0.2) as store, redis_spending(valkey_url, clock) as other:
            calls = Calls(store, clock)
            assert await calls.reserve("a", [day], Amounts(10, 1, 1)) is None
            await store.check()
            door.shut()
            for failing in (calls.reserve("b", [day], Amounts(10, 1, 1)), store.counted(day), store.check()):
                with pytest.raises(BudgetStoreError, match=r"the budgets cannot be checked: Redis at 127\.0\.0\.1"):
                    await failing
            began = time.monotonic()
            await calls.settle("a", [day], Amounts(10, 1, 1), Amounts(7, 1, 1))
            assert time.monotonic() - began < 2
            door.open = True
            async with asyncio.timeout(5):
                while store._settling:
                    await asyncio.sleep(0.01)
            # The one that failed holds nothing.
            assert await other.counted(day) == (Amounts(7, 1, 1), Amounts())
        await door.emptied()


@pytest.mark.parametrize("leaves", [False, True])
async def test_what_was_set_aside_without_our_knowing_is_released(valkey_url: str, leaves: bool) -> None:
    clock, day = Clock(), claim(Limits(100, None, None))
    door = Door(int(valkey_url.rpartition(":")[2].partition("/")[0]))
    async with await asyncio.start_server(door.pass_on, "127.0.0.1", 0) as listener:
        url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
        async with redis_spending(url, clock, answer_s=0.2) as store, redis_spending(valkey_url, clock) as other:
            await store.check()
            door.silent = True
            asked = Amounts(5, 1, 1)
            call = asyncio.create_task(Calls(store, clock).reserve("a", [day], asked))
            async with asyncio.timeout(5):
                while (await other.counted(day))[1] != asked:
                    await asyncio.sleep(0.001)
            if leaves:
                call.cancel()
            with pytest.raises(asyncio.CancelledError if leaves else BudgetStoreError):
                await call
            door.silent = False
            async with asyncio.timeout(5):
                while store._settling:
                    await asyncio.sleep(0.01)
            assert await other.counted(day) == (Amounts(), Amounts())
        await door.emptied()


class Door:
    """Between a client and a server; while it is shut, nobody answers, and while silent, only requests go through."""

    def __init__(self, port: int) -> None:
        self.open = True
        self.silent = False
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._within = 0

    async def emptied(self) -> None:
        self.shut()
        async with asyncio.timeout(5):
            while self._within:
                await asyncio.sleep(0.001)

    def shut(self) -> None:
        self.open = False
        for writer in self._writers:
            writer.transport.abort()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        self._within += 1
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer, back=True))
        self._within -= 1

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool = False) -> None:
        try:
            while data := await reader.read(65536):
                if not (back and self.silent):
                    writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
