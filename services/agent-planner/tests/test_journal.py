"""One suite for every journal; what only a file can show comes after it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pagi_planner.adapters.postgres_journal import PostgresJournal
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.errors import JournalError, RunTakenOverError
from pagi_planner.domain.model import RunStatus
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import Event, EventType

START = {"prompt": "p", "persona": "", "model": "", "tools": None, "resources": [], "limits": {}}


def event(run_id: str, seq: int, kind: EventType = EventType.EVALUATION, session_id: str = "s", **data) -> Event:
    return Event(run_id, seq, kind, datetime.now(UTC), "t", session_id, data)


Journal = SqliteJournal | PostgresJournal


@asynccontextmanager
async def opened(journal: Journal) -> AsyncIterator[Journal]:
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


@pytest.fixture(params=["NORMAL", "FULL"], ids=["by the loop", "by the thread"])
async def sqlite_journal(request, tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    async with opened(SqliteJournal(tmp_path / "deep" / "audit.db", synchronous=request.param)) as journal:
        yield journal


def stored_in(kind: str, request, tmp_path: Path) -> Journal:
    if kind.startswith("sqlite"):
        return SqliteJournal(tmp_path / "audit.db", synchronous="FULL" if kind == "sqlite-full" else "NORMAL")
    return PostgresJournal(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["sqlite", "sqlite-full", "postgresql"])
async def stored(request, tmp_path) -> AsyncIterator[Journal]:
    """One that outlives its process."""
    async with opened(stored_in(request.param, request, tmp_path)) as journal:
        yield journal


@pytest.fixture(params=["list", "sqlite", "sqlite-full", "postgresql"])
async def journal(request, tmp_path):
    if request.param == "list":
        yield ListJournal()
        return
    async with opened(stored_in(request.param, request, tmp_path)) as journal:
        yield journal


async def test_what_was_appended_is_read_back_in_order(journal):
    first, second = event("r", 1, EventType.PLAN_START, text="ä\0\n", n=[1, 2.5, None]), event("r", 2)
    journal.append(first)
    journal.append(event("other", 1))
    journal.append(second)
    await journal.sync("r")
    assert list(await journal.events("r")) == [first, second]


async def test_an_unknown_run_has_no_events(journal):
    assert list(await journal.events("nix")) == []


async def begin(journal: Journal, run_id: str, session_id: str = "s") -> None:
    journal.append(event(run_id, 1, EventType.PLAN_START, session_id, **{**START, "prompt": f"do {run_id}"}))
    await journal.sync(run_id)


async def reached(journal: Journal, position: int) -> None:
    async with asyncio.timeout(5):
        while journal.last_position < position:
            await journal.wait(journal.last_position)


async def test_runs_are_listed_newest_first_in_pages(stored):
    for number in range(5):
        await begin(stored, f"r{number}", "even" if number % 2 == 0 else "odd")
    stored.append(event("r4", 2, EventType.PLAN_END, status="completed"))
    stored.append(event("r3", 2, EventType.PLAN_ERROR, error="x", error_type="y"))
    stored.append(event("r2", 2, EventType.PLAN_CANCELLED, reason="z"))
    await stored.sync("r2")
    page = await stored.runs(limit=3)
    assert [(run.run_id, run.status, run.prompt) for run in page] == [
        ("r4", RunStatus.COMPLETED, "do r4"),
        ("r3", RunStatus.FAILED, "do r3"),
        ("r2", RunStatus.CANCELLED, "do r2"),
    ]
    assert [run.run_id for run in await stored.runs(limit=3, before="r2")] == ["r1", "r0"]
    assert [run.run_id for run in await stored.runs(limit=9, session_id="even")] == ["r4", "r2", "r0"]
    assert set(await stored.unfinished()) == {"r0", "r1"}


async def test_a_reader_follows_from_its_cursor(stored):
    kinds = {EventType.PLAN_START, EventType.PLAN_END}
    await begin(stored, "a")
    stored.append(event("a", 2))
    stored.append(event("a", 3, EventType.PLAN_END, status="completed"))
    await stored.sync("a")
    await reached(stored, 3)
    seen = await stored.after(0, kinds, 10)
    assert [each.seq for _, each in seen] == [1, 3]
    assert await stored.after(seen[-1][0], kinds, 10) == []
    await stored.turn("reader")
    assert stored.has_turn("reader")
    stored.advance("reader", seen[0][0])
    stored.advance("reader", seen[1][0])
    # Nobody waits for cursors: they may be written behind what a sync waits for.
    async with asyncio.timeout(5):
        while await stored.cursor("reader") != seen[1][0]:
            await asyncio.sleep(0.01)
    assert await stored.cursor("somebody else") == 0


async def test_a_reader_is_woken_by_what_comes(stored):
    waiting = asyncio.create_task(stored.wait(stored.last_position))
    await asyncio.sleep(0)
    assert not waiting.done()
    stored.append(event("r", 1))
    async with asyncio.timeout(5):
        await waiting
    assert stored.last_position == 1


async def test_two_writers_of_one_run_cannot_both_go_on(stored):
    stored.append(event("r", 1))
    await stored.sync("r")
    stored.append(event("r", 1))
    stored.append(event("good", 1))
    await stored.sync("good")
    with pytest.raises(JournalError, match=r"UNIQUE|other events"):
        await stored.sync("r")
    stored.append(event("r", 2))
    with pytest.raises(JournalError):
        await stored.sync("r")
    assert len(await stored.events("r")) == 1
    assert len(await stored.events("good")) == 1


async def test_a_run_ends_once(stored):
    await begin(stored, "r")
    stored.append(event("r", 2, EventType.PLAN_END, status="completed"))
    await stored.sync("r")
    stored.append(event("r", 3, EventType.PLAN_ERROR, error="", error_type=""))
    with pytest.raises(JournalError):
        await stored.sync("r")


async def test_a_full_disk_is_told_and_costs_only_what_did_not_fit(sqlite_journal):
    await begin(sqlite_journal, "before")
    # The bound on the size of a file that this process may write stands for the disk's.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        sqlite_journal.append(event("big", 1, text="x" * 1_000_000))
        with pytest.raises(JournalError, match="cannot be written"):
            await sqlite_journal.sync("big")
        await begin(sqlite_journal, "small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await begin(sqlite_journal, "after")
    assert {run.run_id for run in await sqlite_journal.runs(limit=9)} == {"before", "small", "after"}
    assert await sqlite_journal.events("big") == []


async def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "audit.db").mkdir()
    with pytest.raises(JournalError, match=r"audit\.db"):
        await SqliteJournal(tmp_path / "audit.db").start()


async def test_what_is_in_line_is_written_before_the_end(tmp_path):
    journal = SqliteJournal(tmp_path / "a.db")
    await journal.start()
    for seq in range(1, 1001):
        journal.append(event("r", seq))
    await journal.stop()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert connection.execute("SELECT count(*) FROM audit_log").fetchone() == (1000,)
    connection.close()


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.state.events import Event, EventType

async def main():
    journal = SqliteJournal(Path(sys.argv[1]))
    await journal.start()
    seq = 0
    while True:
        seq += 1
        journal.append(Event("r", seq, EventType.EVALUATION, datetime.now(UTC), "t", "s", {}))
        await journal.sync("r")
        sys.stdout.write(f"{seq}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


async def test_what_was_synced_survives_kill_9(tmp_path):
    path = tmp_path / "a.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    synced = int(([*lines, *[line for line in rest.splitlines(keepends=True) if line.endswith("\n")]])[-1])
    journal = SqliteJournal(path)
    await journal.start()
    seqs = [each.seq for each in await journal.events("r")]
    await journal.stop()
    assert len(seqs) >= synced >= 200
    assert seqs == list(range(1, len(seqs) + 1))


async def test_a_value_that_the_database_refuses_costs_only_its_run(stored):
    """Half a surrogate pair is not text: drivers raise what is none of their own errors."""
    stored.append(event("bad", 1, session_id="\ud800"))
    await begin(stored, "good")
    with pytest.raises(JournalError, match="surrogates"):
        await stored.sync("bad")
    await begin(stored, "later")
    assert {run.run_id for run in await stored.runs(limit=9)} == {"good", "later"}


async def test_a_run_that_lost_an_event_goes_on_only_where_it_broke_off(tmp_path, sqlite_journal):
    await begin(sqlite_journal, "r")
    with closing(sqlite3.connect(tmp_path / "deep" / "audit.db")) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'full'); END")
        sqlite_journal.append(event("r", 2))
        with pytest.raises(JournalError, match="full"):
            await sqlite_journal.sync("r")
        other.execute("DROP TRIGGER full")
    for seq in (3, 4):
        sqlite_journal.append(event("r", seq))
        with pytest.raises(JournalError):
            await sqlite_journal.sync("r")
    sqlite_journal.append(event("r", 2))
    sqlite_journal.append(event("r", 3, EventType.PLAN_ERROR, error="x", error_type="y"))
    await sqlite_journal.sync("r")
    assert [each.seq for each in await sqlite_journal.events("r")] == [1, 2, 3]


async def test_what_is_kept_of_a_lost_event_keeps_nothing_else(stored):
    stored.append(event("r", 1, EventType.PLAN_START, **START))
    await stored.sync("r")
    await stored.claim(["r"])
    stored.append(event("r", 2))
    with pytest.raises(RunTakenOverError):
        await stored.sync("r")
    assert stored._writing()._broken["r"].fault.__traceback__ is None


async def test_a_cursor_that_could_not_be_stored_is_stored_the_next_time(tmp_path, sqlite_journal):
    with closing(sqlite3.connect(tmp_path / "deep" / "audit.db")) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON journal_cursors BEGIN SELECT RAISE(ABORT, 'full'); END")
        sqlite_journal.advance("reader", 5)
        await begin(sqlite_journal, "r")
        other.execute("DROP TRIGGER full")
    sqlite_journal.advance("reader", 6)
    await sqlite_journal.sync("r")
    assert await sqlite_journal.cursor("reader") == 6


async def test_a_file_that_somebody_holds_fails_every_run_after_one_wait(tmp_path, sqlite_journal, monkeypatch):
    sqlite_journal._writer._connection.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(tmp_path / "deep" / "audit.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for number in range(100):
            sqlite_journal.append(event(f"r{number}", 1))
        faults = await asyncio.gather(*(sqlite_journal.sync(f"r{n}") for n in range(100)), return_exceptions=True)
        assert time.monotonic() - began < 2
        assert all("locked" in str(fault) for fault in faults)
        other.execute("ROLLBACK")
    await begin(sqlite_journal, "after")


async def test_the_event_loop_goes_on_while_somebody_holds_the_file(tmp_path, sqlite_journal):
    with closing(sqlite3.connect(tmp_path / "deep" / "audit.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(begin(sqlite_journal, "r"))
        began = time.monotonic()
        for _ in range(100):
            await asyncio.sleep(0)
        assert time.monotonic() - began < 1
        assert not writing.done()
        other.execute("ROLLBACK")
    await writing
    assert [each.seq for each in await sqlite_journal.events("r")] == [1]


async def test_rows_are_kept_in_order_whoever_writes_them(sqlite_journal):
    await begin(sqlite_journal, "r")
    for seq in range(2, 200):
        sqlite_journal.append(event("r", seq))
        # Many in one turn of the loop, then some in the next.
        if seq % 50 > 45:
            await asyncio.sleep(0)
    await sqlite_journal.sync("r")
    rows = await sqlite_journal.after(0, set(EventType), 200)
    assert [each.seq for _, each in rows] == list(range(1, 200))


class Counting:
    """A connection that counts its commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.commits = 0

    def execute(self, sql, *values):
        self.commits += sql == "COMMIT"
        return self._connection.execute(sql, *values)

    def __getattr__(self, name):
        return getattr(self._connection, name)


async def test_the_event_loop_commits_what_is_little_and_waits_for_no_disk(tmp_path):
    async with opened(SqliteJournal(tmp_path / "audit.db")) as journal:
        loop = journal._writing()._quick = Counting(journal._writing()._quick)
        await begin(journal, "little")
        assert loop.commits == 1
        for number in range(100):
            journal.append(event(f"many {number}", 1, EventType.PLAN_START, **START))
        await journal.sync("many 0")
        # The thread may have carried the log over; whoever begins it anew waits for the disk.
        await begin(journal, "after many")
        assert loop.commits == 1
        await begin(journal, "little again")
        assert loop.commits == 2
        journal.append(event("little again", 2, text="x" * 100_000))
        await journal.sync("little again")
        assert loop.commits == 2, "a page after the other would hold the loop up"
        assert len(await journal.unfinished()) == 103


async def test_the_write_ahead_log_is_carried_over_again_and_again(tmp_path, sqlite_journal):
    await begin(sqlite_journal, "r")
    for seq in range(2, 1_500):
        sqlite_journal.append(event("r", seq, text="x" * 4_000))
        await sqlite_journal.sync("r")
    # Never carried over, it would hold 25 MB by now; it is from 1,000 pages on.
    assert (tmp_path / "deep" / "audit.db-wal").stat().st_size < 8_000_000


async def test_a_second_planner_is_kept_off(tmp_path, sqlite_journal):
    second = SqliteJournal(tmp_path / "deep" / "audit.db")
    with pytest.raises(JournalError, match=f"in use by process {os.getpid()}.*PAGI_AUDIT_DB_PATH"):
        await second.start()
    await second.stop()
    await sqlite_journal.stop()
    await second.start()
    await second.stop()


async def test_a_closed_journal_says_so(stored):
    await stored.stop()
    with pytest.raises(JournalError, match="closed"):
        stored.append(event("r", 1))
    for call in (stored.sync("r"), stored.events("r"), stored.unfinished()):
        with pytest.raises(JournalError, match="closed"):
            await call
