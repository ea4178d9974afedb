"""Who has which run: one suite for every store; what only several planners on one server can show comes after it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pagi_planner.adapters import postgres_tail, postgres_writer
from pagi_planner.adapters.postgres_journal import PostgresJournal
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.errors import JournalError, RunTakenOverError
from pagi_planner.domain.model import RunStatus
from pagi_planner.domain.ownership import Heartbeats, Order, OrderKind
from pagi_planner.domain.state.events import Event, EventType

Store = SqliteJournal | PostgresJournal
# No store of a test is dead before the test says so.
LONG_S = 600.0


def event(run_id: str, seq: int, kind: EventType = EventType.EVALUATION, **data) -> Event:
    return Event(run_id, seq, kind, datetime.now(UTC), "t", "s", data)


def start(run_id: str, **data) -> Event:
    return event(run_id, 1, EventType.PLAN_START, prompt=f"do {run_id}", **data)


async def write(store: Store, *events: Event, epoch: int = 1) -> None:
    for each in events:
        store.append(each, epoch)
    await store.sync(events[-1].run_id)


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        made: Store = SqliteJournal(tmp_path / "audit.db")
    else:
        made = PostgresJournal(request.getfixturevalue("postgres_url"), lapse_s=LONG_S)
    async with opened(made):
        yield made


async def status_of(store: Store, run_id: str) -> RunStatus:
    return next(run.status for run in await store.runs(limit=100) if run.run_id == run_id)


async def test_the_row_follows_the_events(store):
    await write(store, start("r", parent_run_id="p"))
    [row] = await store.runs(limit=9)
    assert (row.run_id, row.session_id, row.trace_id, row.prompt, row.parent_run_id) == ("r", "s", "t", "do r", "p")
    assert (row.status, row.ended_at) == (RunStatus.RUNNING, None)
    await write(store, *(event("r", n, EventType.APPROVAL_REQUESTED, call_id=f"c{n}") for n in (2, 3)))
    assert await status_of(store, "r") is RunStatus.WAITING_APPROVAL
    await write(store, event("r", 4, EventType.APPROVAL_DECIDED, call_id="c2"))
    assert await status_of(store, "r") is RunStatus.WAITING_APPROVAL
    await write(store, event("r", 5, EventType.APPROVAL_DECIDED, call_id="c3"))
    assert await status_of(store, "r") is RunStatus.RUNNING
    end = event("r", 6, EventType.PLAN_END, status="limit_cost")
    await write(store, end)
    [row] = await store.runs(limit=9)
    assert (row.status, row.ended_at) == (RunStatus.LIMIT_COST, end.timestamp)
    assert await store.unfinished() == []


async def test_a_run_whose_events_come_at_once_has_the_row_that_it_ends_with(store):
    end = event("a", 3, EventType.PLAN_CANCELLED, reason="x")
    await write(store, start("a"), event("a", 2, EventType.APPROVAL_REQUESTED, call_id="c"), end)
    await write(store, start("b"), event("b", 2, EventType.APPROVAL_REQUESTED, call_id="c"))
    [b, a] = await store.runs(limit=9)
    assert (a.status, a.ended_at) == (RunStatus.CANCELLED, end.timestamp)
    assert (b.status, b.ended_at) == (RunStatus.WAITING_APPROVAL, None)


async def test_runs_are_found_by_where_they_stand(store):
    for number in range(6):
        await write(store, start(f"r{number}"))
        if number % 2:
            await write(store, event(f"r{number}", 2, EventType.APPROVAL_REQUESTED, call_id="c"))
    waiting = await store.runs(limit=2, status=RunStatus.WAITING_APPROVAL)
    assert [run.run_id for run in waiting] == ["r5", "r3"]
    more = await store.runs(limit=2, status=RunStatus.WAITING_APPROVAL, before="r3", session_id="s")
    assert [run.run_id for run in more] == ["r1"]
    assert await store.runs(limit=2, status=RunStatus.COMPLETED) == []


async def test_a_claim_voids_what_is_written_under_an_older_one(store):
    await write(store, start("r"))
    await write(store, start("other"))
    [claim] = await store.claim(["r", "nix"])
    assert (claim.run_id, claim.epoch, claim.last_seq, claim.trace_id, claim.session_id) == ("r", 2, 1, "t", "s")
    assert claim.owner == store.owner
    store.append(event("r", 2, text="of a zombie"), 1)
    store.append(event("other", 2))
    with pytest.raises(RunTakenOverError, match="another claim"):
        await store.sync("r")
    await store.sync("other")
    await write(store, event("r", 2, text="of the living"), epoch=2)
    store.append(event("r", 3, text="of a zombie"), 1)
    with pytest.raises(RunTakenOverError):
        await store.sync("r")
    assert [each.data.get("text") for each in await store.events("r")] == [None, "of the living"]
    assert len(await store.events("other")) == 2


async def test_what_no_row_can_be_named_is_not_there(store):
    assert await store.events("r\0") == await store.claim(["r\0"]) == await store.runs(limit=1, before="r\0") == []
    assert await store.runs(limit=1, session_id="s\0") == []


async def test_what_has_ended_is_nobodys(store):
    await write(store, start("r"), event("r", 2, EventType.PLAN_END, status="completed"))
    assert await store.claim(["r"]) == []
    with pytest.raises(RunTakenOverError):
        await write(store, event("r", 3))


async def test_a_run_that_waits_belongs_to_nobody_until_it_is_claimed(store):
    await write(store, start("r"))
    assert await store.lapsed() == ["r"]
    await store.release("r", 1)
    assert await store.lapsed() == []
    assert await store.unfinished() == ["r"]
    with pytest.raises(RunTakenOverError):
        await write(store, event("r", 2))
    [claim] = await store.claim(["r"])
    await store.release("r", 1)
    await write(store, event("r", 2), epoch=claim.epoch)


async def test_an_old_file_is_given_its_rows(tmp_path):
    path = tmp_path / "audit.db"
    async with opened(SqliteJournal(path)) as journal:
        await write(journal, start("done"), event("done", 2, EventType.PLAN_END, status="no_progress"))
        await write(journal, start("failed"), event("failed", 2, EventType.PLAN_ERROR, error="e", error_type="t"))
        await write(journal, start("cut off", parent_run_id="done"), event("cut off", 2))
        await write(journal, start("waits"), event("waits", 2, EventType.APPROVAL_REQUESTED, call_id="c"))
        before = await journal.runs(limit=9)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE runs")
    async with opened(SqliteJournal(path)) as journal:
        assert await journal.runs(limit=9) == before
        assert sorted(await journal.lapsed()) == ["cut off", "waits"]
        assert {claim.epoch for claim in await journal.claim(["cut off", "waits"])} == {2}


async def test_lists_and_the_search_for_unfinished_runs_read_an_index(tmp_path):
    from pagi_planner.adapters.sqlite_tables import LAPSED, runs_query

    path = tmp_path / "audit.db"
    async with opened(SqliteJournal(path)):
        pass
    with closing(sqlite3.connect(path)) as connection:
        for sql, values in (
            runs_query(limit=9, before="", session_id="", status="waiting_approval"),
            runs_query(limit=9, before="r", session_id="s", status=""),
            (LAPSED, ()),
        ):
            plan = str(connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall())
            assert "INDEX" in plan, plan
            assert "SCAN runs'" not in plan, plan


class TestHeartbeats:
    @pytest.fixture
    def time(self):
        class Time:
            now = 0.0

            def __call__(self) -> float:
                return self.now

        return Time()

    def look(self, beats, time, now, **counts):
        time.now = now
        return beats.look(counts)

    def test_who_stands_still_is_dead_and_who_counts_on_is_not(self, time):
        beats = Heartbeats(4.0, time)
        assert all(not self.look(beats, time, n, dead=7, alive=n) for n in range(4))
        assert self.look(beats, time, 4, dead=7, alive=4) == {"dead": 7}
        assert self.look(beats, time, 5, dead=8, alive=5) == {}

    def test_who_has_left_is_dead_at_once(self, time):
        assert Heartbeats(4.0, time).look({"left": None, "here": 1}) == {"left": None}

    def test_time_without_a_look_does_not_count(self, time):
        """A machine that slept, or was stopped, looks before the others have had a chance to beat."""
        beats = Heartbeats(4.0, time)
        assert self.look(beats, time, 0, other=1) == {}
        assert self.look(beats, time, 100, other=1) == {}
        assert [bool(self.look(beats, time, 100 + n, other=1)) for n in (1, 2, 3, 4)] == [False, False, False, True]


class TestSeveralPlanners:
    """On one PostgreSQL server."""

    @pytest.fixture
    async def two(self, postgres_url) -> AsyncIterator[tuple[PostgresJournal, PostgresJournal]]:
        async with (
            opened(PostgresJournal(postgres_url, lapse_s=LONG_S)) as one,
            opened(PostgresJournal(postgres_url, lapse_s=LONG_S)) as other,
        ):
            yield one, other

    async def test_the_runs_of_the_living_are_not_to_be_had(self, two):
        one, other = two
        await write(one, start("r"))
        await other.renew()
        assert await other.lapsed() == []
        assert await other.claim(["r"]) == []
        with pytest.raises(RunTakenOverError):
            await write(other, event("r", 2))
        # Of a run that both begin, one is the first.
        with pytest.raises(RunTakenOverError):
            await write(other, start("r"))
        assert len(await one.events("r")) == 1

    async def test_of_many_who_want_it_one_gets_the_run_of_a_dead_planner(self, two, postgres_url):
        one, other = two
        async with opened(PostgresJournal(postgres_url)) as dead:
            for number in range(20):
                await write(dead, start(f"r{number:02}"))
        # It has left without its runs: its row is gone.
        await asyncio.gather(one.renew(), other.renew())
        wanted = await one.lapsed()
        assert len(wanted) == 20
        ours, theirs = await asyncio.gather(one.claim(wanted), other.claim(wanted))
        assert sorted(claim.run_id for claim in (*ours, *theirs)) == sorted(wanted)
        assert {claim.epoch for claim in (*ours, *theirs)} == {2}
        assert not {claim.run_id for claim in ours} & {claim.run_id for claim in theirs}

    async def test_one_that_stands_still_is_dead_unless_it_beats_before_the_claim(self, postgres_url):
        async with opened(PostgresJournal(postgres_url)) as still, opened(PostgresJournal(postgres_url)) as alive:
            await write(still, start("r"))
            now = 0.0
            alive._heartbeats = Heartbeats(4.0, lambda: now)
            for now in range(5):  # noqa: B007 - the clock reads it
                await alive.renew()
            assert await alive.lapsed() == ["r"]
            await still.renew()
            assert await alive.claim(["r"]) == []
            for now in range(5, 10):  # noqa: B007 - the clock reads it
                await alive.renew()
            [claim] = await alive.claim(["r"])
            assert claim.epoch == 2
            with pytest.raises(RunTakenOverError):
                await write(still, event("r", 2))

    async def test_each_reader_is_read_for_by_one_at_a_time(self, two, monkeypatch):
        from pagi_planner.adapters import postgres_journal

        monkeypatch.setattr(postgres_journal, "_TURN_S", 0.01)
        one, other = two
        await one.turn("notifications")
        waiting = asyncio.create_task(other.turn("notifications"))
        one.advance("notifications", 7)
        await one.turn("another one, which waits for nobody")
        async with asyncio.timeout(5):
            while await other.cursor("notifications") < 7:
                await asyncio.sleep(0.01)
        assert not waiting.done()
        await one.stop()
        async with asyncio.timeout(5):
            await waiting
        assert other.has_turn("notifications")
        assert await other.cursor("notifications") == 7

    async def test_a_planner_that_was_away_does_not_take_its_turn_for_granted(self, two):
        one, _ = two
        await one.turn("notifications")
        assert one.has_turn("notifications")
        one._renewed_at -= LONG_S
        assert not one.has_turn("notifications")

    async def test_word_reaches_the_planner_that_has_the_run(self, two):
        one, other = two
        await write(one, start("r"))
        await write(one, start("over"), event("over", 2, EventType.PLAN_END, status="completed"))
        await one.wait_for_orders(0.01)
        waiting = asyncio.create_task(one.wait_for_orders(60))
        order = Order("r", OrderKind.CANCEL, {"reason": "x"})
        await other.hand_on(order)
        await other.hand_on(order)
        await other.hand_on(Order("over", OrderKind.CANCEL, {"reason": "too late"}))
        async with asyncio.timeout(5):
            await waiting
        assert await other.orders() == []
        assert await one.orders() == [order]
        assert await one.orders() == []

    async def test_a_reader_sees_ids_in_an_order_that_does_not_change(self, two):
        """An earlier id may be committed after a later one: a reader who went by the newest would miss it."""
        import asyncpg

        one, other = two
        await write(one, start("r"))
        late = await asyncpg.connect(one._server._url)
        async with asyncio.timeout(10):
            await other.wait(0)
        transaction = late.transaction()
        await transaction.start()
        await late.execute(
            "INSERT INTO audit_log (trace_id, session_id, timestamp, event_type, data, run_id, seq)"
            " VALUES ('t', 's', now(), 'EVALUATION', '{}', 'late', 1)"
        )
        before = other.last_position
        await write(one, event("r", 2))
        await write(one, event("r", 3))
        other._tail._looking.set()
        await asyncio.sleep(0.1)
        assert other.last_position == before, "it does not go past what is under way"
        await transaction.commit()
        await late.close()
        async with asyncio.timeout(10):
            while other.last_position < before + 3:
                await other.wait(other.last_position)
        seen = await other.after(before, {EventType.EVALUATION}, 9)
        assert [(each.run_id, each.seq) for _, each in seen] == [("late", 1), ("r", 2), ("r", 3)]

    async def test_a_place_that_stays_empty_does_not_hold_readers_up(self, two):
        one, other = two
        await write(one, start("r"))
        await one._server.fetch("SELECT nextval(pg_get_serial_sequence('audit_log', 'id'))")
        await write(one, event("r", 2))
        async with asyncio.timeout(10):
            while other.last_position < 3:
                await other.wait(other.last_position)


def at(url: str, port: int = 8585) -> PostgresJournal:
    return PostgresJournal(url, lapse_s=LONG_S, port=port)


async def lose_session(journal: PostgresJournal) -> None:
    """As the kernel does for a process that was killed; what is left of the planner is in the tables."""
    for task in journal._tail._tasks:
        task.cancel()
    journal._tail._connection.terminate()
    sql = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    async with asyncio.timeout(10):
        while await journal._server.fetch(sql):
            await asyncio.sleep(0.01)


class TestSuccessors:
    """A planner of the same machine and port."""

    async def test_one_takes_the_runs_of_a_predecessor_that_is_gone_at_once(self, postgres_url):
        async with opened(at(postgres_url)) as dead:
            await write(dead, start("r"))
            await dead.turn("notifications")
            await lose_session(dead)
            async with opened(at(postgres_url, 8586)) as neighbour:
                assert await neighbour.lapsed() == []
                async with opened(at(postgres_url)) as successor:
                    assert await successor.lapsed() == ["r"]
                    await successor.renew()
                    [claim] = await successor.claim(["r"])
                    assert claim.epoch == 2
                    async with asyncio.timeout(5):
                        await successor.turn("notifications")
                    with pytest.raises(RunTakenOverError):
                        await write(dead, event("r", 2))

    async def test_one_that_hangs_or_lives_keeps_its_runs(self, postgres_url):
        """Hanging, its session is still there: only its count tells, after the time for that."""
        async with opened(at(postgres_url)) as here:
            await write(here, start("r"))
            async with opened(at(postgres_url)) as other:
                assert await other.lapsed() == []
                assert await other.claim(["r"]) == []
            await write(here, event("r", 2))

    async def test_of_two_that_were_there_only_the_one_that_is_gone_is_followed(self, postgres_url):
        async with opened(at(postgres_url)) as dead, opened(at(postgres_url)) as alive:
            await write(alive, start("mine"))
            await write(dead, start("left"))
            held = await dead._server.fetch("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            assert held[0][0] == 2
            for task in dead._tail._tasks:
                task.cancel()
            await dead._tail._connection.close()
            async with opened(at(postgres_url)) as successor:
                assert await successor.lapsed() == ["left"]

    async def test_a_lost_connection_is_no_death(self, postgres_url):
        async with opened(at(postgres_url)) as alive:
            await write(alive, start("r"))
            await lose_session(alive)
            async with opened(at(postgres_url)) as other:
                # It was taken for gone; then it gives a sign of life, before the claim.
                assert await other.lapsed() == ["r"]
                await alive.renew()
                assert await other.claim(["r"]) == []
                await other.renew()
                assert await other.lapsed() == []
            await write(alive, event("r", 2))

    async def test_a_session_that_was_lost_is_made_anew(self, postgres_url):
        async with opened(at(postgres_url)) as alive:
            await write(alive, start("r"))
            sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            await alive._server.fetch(sql)
            connection = alive._tail._connection
            async with asyncio.timeout(10):
                while alive._tail._connection is connection or not await alive._server.fetch(
                    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
                ):
                    alive._tail._looking.set()
                    await asyncio.sleep(0.01)
            async with opened(at(postgres_url)) as other:
                assert await other.lapsed() == []

    async def test_without_a_port_of_their_own_nobody_is_anybodys_successor(self, postgres_url):
        async with opened(at(postgres_url, 0)) as dead:
            await write(dead, start("r"))
            await lose_session(dead)
            async with opened(at(postgres_url, 0)) as other:
                assert await other.lapsed() == []


class TestBrokenConnections:
    async def test_what_was_written_when_the_answer_was_lost_is_not_written_twice(self, postgres_url, monkeypatch):
        async with opened(PostgresJournal(postgres_url)) as journal:
            writer = journal._writer
            append = writer._append
            lost = 0

            async def append_and_lose(rows, is_repeat):
                nonlocal lost
                stored = await append(rows, is_repeat)
                if not is_repeat:
                    lost += 1
                    raise ConnectionResetError("the answer is lost")
                return stored

            monkeypatch.setattr(writer, "_append", append_and_lose)
            await write(journal, start("r"))
            await write(journal, event("r", 2, EventType.APPROVAL_REQUESTED, call_id="c"))
            await write(journal, event("r", 3, EventType.PLAN_END, status="completed"))
            assert lost == 3
            assert [each.seq for each in await journal.events("r")] == [1, 2, 3]
            assert await status_of(journal, "r") is RunStatus.COMPLETED

    async def test_a_fault_of_ours_does_not_end_the_following(self, postgres_url, monkeypatch):
        monkeypatch.setattr(postgres_tail, "POLL_S", 0.01)
        async with opened(PostgresJournal(postgres_url)) as journal:
            look, faults = journal._tail._look, [ValueError("a fault of ours")]

            async def faulty() -> None:
                if faults:
                    raise faults.pop()
                await look()

            monkeypatch.setattr(journal._tail, "_look", faulty)
            position = journal.last_position
            await write(journal, start("r"))
            async with asyncio.timeout(5):
                await journal.wait(position)

    async def test_a_server_that_is_away_for_a_moment_ends_nothing(self, postgres_url):
        async with opened(PostgresJournal(postgres_url)) as journal:
            await write(journal, start("r"))
            for seq in range(2, 6):
                await journal._server.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                await write(journal, event("r", seq))
            assert len(await journal.events("r")) == 5
            position = journal.last_position
            await write(journal, event("r", 6))
            async with asyncio.timeout(5):
                await journal.wait(position)

    async def test_a_server_that_stays_away_ends_the_run_before_its_next_effect(self, postgres_url, monkeypatch):
        monkeypatch.setattr(postgres_writer, "PATIENCE_S", 0.2)
        async with opened(PostgresJournal(postgres_url)) as journal:
            await write(journal, start("r"))
            server = journal._writer._server
            journal._writer._disconnect()
            monkeypatch.setattr(server, "_url", "postgresql://pagi@127.0.0.1:1/postgres")
            with pytest.raises(JournalError, match="cannot be used"):
                await write(journal, event("r", 2))

    async def test_a_url_that_leads_nowhere_is_said_without_its_password(self):
        with pytest.raises(JournalError, match=r"127\.0\.0\.1:1/pagi") as caught:
            await PostgresJournal("postgresql://me:hunter2@127.0.0.1:1/pagi").start()
        assert "hunter2" not in str(caught.value)
