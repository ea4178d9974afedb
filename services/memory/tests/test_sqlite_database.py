"""Transactions of one file: many at once are committed together, and each is whole or not there."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pagi_memory.adapters.sqlite_database import SqliteDatabase
from pagi_memory.domain.errors import StoreInUseError, StoreUnavailableError

SCHEMA = "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "notes.db", SCHEMA, readers=1)
    await database.start()
    yield database
    await database.stop()


def note(*names: str, fails: Exception | None = None) -> Callable[[sqlite3.Connection], str]:
    def change(connection: sqlite3.Connection) -> str:
        connection.executemany("INSERT INTO notes VALUES (?)", [(name,) for name in names])
        if fails:
            raise fails
        return names[0]

    return change


async def names(database: SqliteDatabase) -> set[str]:
    return await database.read(lambda connection: {name for (name,) in connection.execute("SELECT name FROM notes")})


async def test_many_changes_at_once_are_few_transactions(database: SqliteDatabase) -> None:
    seen = []

    def change(i: int) -> Callable[[sqlite3.Connection], int]:
        def run(connection: sqlite3.Connection) -> int:
            connection.execute("INSERT INTO notes VALUES (?)", (str(i),))
            seen.append(i)
            return i

        return run

    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(count)

    await database.write(watch)
    assert await asyncio.gather(*(database.write(change(i)) for i in range(100))) == list(range(100))
    assert len(await names(database)) == len(seen) == 100, "each was run once"
    assert commits <= 4


async def test_one_that_fails_takes_none_of_the_others_along(database: SqliteDatabase) -> None:
    await database.write(note("there"))
    outcomes = await asyncio.gather(
        database.write(note("a")),
        database.write(note("b1", "there")),
        database.write(note("c1", "c2", fails=ValueError("no"))),
        database.write(note("d")),
        return_exceptions=True,
    )
    assert outcomes[0::3] == ["a", "d"]
    assert isinstance(outcomes[1], StoreUnavailableError)
    assert "notes.db cannot be used: UNIQUE" in str(outcomes[1])
    assert isinstance(outcomes[1].__cause__, sqlite3.IntegrityError)
    assert str(outcomes[2]) == "no"
    assert await names(database) == {"there", "a", "d"}


async def test_who_goes_before_it_began_changes_nothing_and_the_others_go_on(database: SqliteDatabase) -> None:
    writes = [asyncio.create_task(database.write(note(name))) for name in "abc"]
    await asyncio.sleep(0)
    writes[1].cancel()
    first, second, third = await asyncio.gather(*writes, return_exceptions=True)
    assert (first, third) == ("a", "c")
    assert isinstance(second, asyncio.CancelledError)
    assert await names(database) == {"a", "c"}


async def test_what_is_to_follow_a_change_follows_before_anybody_is_told_and_whoever_is_still_there(
    database: SqliteDatabase,
) -> None:
    happened: list[str] = []

    async def write(name: str, change: Callable[[sqlite3.Connection], str]) -> None:
        try:
            await database.write(change, after=lambda: happened.append(f"after {name}"))
        finally:
            happened.append(name)

    begun = threading.Event()

    def slow(connection: sqlite3.Connection) -> str:
        begun.set()
        return note("gone")(connection)

    leaving = asyncio.create_task(write("leaving", slow))
    await asyncio.to_thread(begun.wait)
    leaving.cancel()
    never = asyncio.create_task(write("never", note("never")))
    await asyncio.sleep(0)
    never.cancel()
    writes = [write("fails", note("gone")), write("stays", note("stays"))]
    await asyncio.gather(leaving, never, *writes, return_exceptions=True)
    assert await names(database) == {"gone", "stays"}, "one began before its caller went, one had not"
    for name in ("leaving", "never", "fails", "stays"):
        assert happened.count(f"after {name}") == 1
    assert max(happened.index(f"after {name}") for name in ("fails", "stays")) < happened.index("stays")


async def test_while_another_process_writes_all_are_told_after_one_wait(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "notes.db", SCHEMA, busy_timeout_s=0.05)
    await database.start()
    other = sqlite3.connect(tmp_path / "notes.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    outcomes = await asyncio.gather(*(database.write(note(str(i))) for i in range(100)), return_exceptions=True)
    assert {str(outcome) for outcome in outcomes} == {"The database notes.db cannot be used: database is locked"}
    assert time.monotonic() - began < 2
    other.execute("ROLLBACK")
    other.close()
    assert await database.write(note("free")) == "free"
    await database.stop()


async def test_a_stop_waits_for_what_was_asked_for(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "notes.db", SCHEMA)
    await database.start()
    writes = [asyncio.create_task(database.write(note(str(i)))) for i in range(100)]
    await asyncio.sleep(0)
    await database.stop()
    assert await asyncio.gather(*writes) == [str(i) for i in range(100)]


async def test_another_owner_of_the_file_is_refused_before_it_is_touched(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    (tmp_path / "same.db").symlink_to(tmp_path / "notes.db")
    for name in ("notes.db", "same.db"):
        second = SqliteDatabase(tmp_path / name, "DROP TABLE notes")
        with pytest.raises(StoreInUseError, match=rf"{name} is in use by process {os.getpid()}.*HEART_DB_PATH"):
            await second.start(first=lambda: pytest.fail("it looked"))
        await second.stop()
    assert await names(database) == set()
    await database.stop()
    third = SqliteDatabase(tmp_path / "same.db", SCHEMA)
    await third.start()
    await third.stop()
