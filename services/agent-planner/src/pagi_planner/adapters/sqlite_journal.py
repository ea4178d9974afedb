"""The journal in SQLite: table `audit_log`, one writer, group commit.

Measured for this pattern: about 35 microseconds an append, 64,000 rows a second with many runs at once, because one
commit serves all rows that wait; one run alone waits 40 microseconds for a commit by the event loop, 90 for one by a
thread. WAL with synchronous=NORMAL survives the death of the process; FULL also that of the
machine (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pagi_planner.adapters.run_rows import owner_name
from pagi_planner.adapters.sqlite_tables import (
    ADVANCE,
    CLAIM,
    COLUMNS,
    LAPSED,
    REBUILD,
    RELEASE,
    SCHEMA,
    UNFINISHED,
    event_of,
    runs_query,
    statements_of,
    summary_of,
)
from pagi_planner.adapters.sqlite_writer import Row, SqliteWriter
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.model import RunStatus, RunSummary
from pagi_planner.domain.ownership import FIRST_EPOCH, Claim, Order
from pagi_planner.domain.state.events import Event, EventType

log = logging.getLogger(__name__)


class SqliteJournal:
    """Journal, run index and tail in one file.

    Args:
        path: Of the database; its folder is made.
        synchronous: `NORMAL` or `FULL`.
    """

    def __init__(self, path: Path, *, synchronous: str = "NORMAL") -> None:
        self._path = path
        self._synchronous = synchronous
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self._reading: sqlite3.Connection | None = None
        self._writer: SqliteWriter | None = None
        self._lock: int | None = None
        self._last = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._owner = owner_name()

    async def start(self) -> None:
        """Opens the file, with its tables.

        Raises:
            JournalError: It cannot be opened, or another process has it.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._own()
            self._reading = self._connect()
            _make_tables(self._reading)
            self._last = self._reading.execute("SELECT coalesce(max(id), 0) FROM audit_log").fetchone()[0]
            # With FULL every commit waits for the disk, which is nothing for the event loop.
            quick = self._connect_quickly() if self._synchronous == "NORMAL" else None
            self._writer = SqliteWriter(self._connect(), self._wake, quick=quick)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {self._path} cannot be opened: {error}") from error

    async def stop(self) -> None:
        """Writes what is in line, then closes."""
        if self._writer:
            await self._writer.close()
            self._writer = None
        self._reader.shutdown()
        if self._reading:
            self._reading.close()
            self._reading = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, event: Event, epoch: int = FIRST_EPOCH) -> None:
        """Puts the event in line."""
        self._writing().put(Row(statements_of(event, self._owner, epoch), event.run_id, event.seq, epoch))

    def advance(self, reader: str, position: int) -> None:
        """Puts the cursor in line; losing it in a crash means a repeat, which readers bear."""
        self._writing().put(Row(((ADVANCE, (reader, position)),)))

    async def sync(self, run_id: str) -> None:
        """Waits for the commit that holds everything appended so far.

        Raises:
            RunTakenOverError: The run belongs to a later claim.
            JournalError: An event of this run was not written: the disk is full, the file is locked or gone.
        """
        await self._writing().sync(run_id)

    async def events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The events of a run in order."""
        rows = await self._read(
            f"SELECT {COLUMNS} FROM audit_log WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
            (run_id, after, -1 if limit is None else limit),
        )
        return [event_of(row) for row in rows]

    async def runs(
        self, *, limit: int, before: str = "", session_id: str = "", status: RunStatus | None = None
    ) -> Sequence[RunSummary]:
        """The newest runs, newest first."""
        rows = await self._read(*runs_query(limit=limit, before=before, session_id=session_id, status=status or ""))
        return [summary_of(row) for row in rows]

    async def unfinished(self) -> Sequence[str]:
        """The ids of runs without a final event."""
        return [row[0] for row in await self._read(UNFINISHED)]

    @property
    def owner(self) -> str:
        """Tells this process from those before it."""
        return self._owner

    async def claim(self, run_ids: Sequence[str]) -> Sequence[Claim]:
        """Takes over the runs that are unfinished; who calls knows that nobody works on them here."""
        rows = await self._writing().ask([(CLAIM, (self._owner, run_id)) for run_id in run_ids])
        return [Claim(*row) for row in rows]

    async def release(self, run_id: str, epoch: int) -> None:
        """Lets go of a run that waits for a person."""
        await self._writing().ask([(RELEASE, (run_id, self._owner, epoch))])

    async def lapsed(self) -> Sequence[str]:
        """Unfinished runs that do not wait for a person, at work or not."""
        return [row[0] for row in await self._read(LAPSED)]

    async def renew(self) -> None:
        """Has nothing to say: the lock on the file ends with the process."""

    async def hand_on(self, order: Order) -> None:
        """Has nobody to hand on to: the file has one planner."""

    async def orders(self) -> Sequence[Order]:
        """None: nobody else can leave any."""
        return ()

    async def wait_for_orders(self, timeout_s: float) -> None:
        """Waits out the time."""
        await asyncio.sleep(timeout_s)

    async def turn(self, reader: str) -> None:
        """Is always this planner's."""

    def has_turn(self, reader: str) -> bool:
        """Always."""
        return True

    @property
    def last_position(self) -> int:
        """The id of the newest committed row."""
        return self._last

    async def wait(self, position: int) -> None:
        """Returns when a row behind the position is committed."""
        while self._last <= position:
            changed = asyncio.get_running_loop().create_future()
            self._waiting.add(changed)
            try:
                await changed
            finally:
                self._waiting.discard(changed)

    async def after(self, position: int, types: Collection[EventType], limit: int) -> Sequence[tuple[int, Event]]:
        """The next events of these types."""
        marks = ", ".join("?" * len(types))
        rows = await self._read(
            f"SELECT {COLUMNS} FROM audit_log WHERE id > ? AND event_type IN ({marks}) ORDER BY id LIMIT ?",  # noqa: S608
            (position, *(kind.value for kind in types), limit),
        )
        return [(row[0], event_of(row)) for row in rows]

    async def cursor(self, reader: str) -> int:
        """How far a reader has come."""
        rows = await self._read("SELECT position FROM journal_cursors WHERE reader = ?", (reader,))
        return int(rows[0][0]) if rows else 0

    def _writing(self) -> SqliteWriter:
        if self._writer is None:
            raise JournalError("the journal is closed")
        return self._writer

    def _own(self) -> None:
        """Keeps a second planner off: it would take the runs in progress here for those of a dead process."""
        # The kernel lets a lock go with its process, however that ends; the file itself means nothing.
        lock = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(lock, 32).decode().strip() or "unknown"
            os.close(lock)
            raise JournalError(
                f"the journal {self._path} is in use by process {owner}; stop that planner, "
                "or give this one a PAGI_AUDIT_DB_PATH of its own"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock

    def _connect(self, *, wait_s: float = 5.0) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=wait_s)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        return connection

    def _connect_quickly(self) -> sqlite3.Connection:
        """A connection that fails where others would wait, and never carries the write-ahead log over."""
        connection = self._connect(wait_s=0.0)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    async def _read(self, sql: str, values: Any = ()) -> list[Any]:
        if (reading := self._reading) is None:
            raise JournalError("the journal is closed")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reader, lambda: reading.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            log.error("the journal %s cannot be read: %s", self._path, error)
            raise JournalError(f"the journal cannot be read: {error}") from error

    def _wake(self, last: int) -> None:
        """Tells those who follow the journal that it has grown."""
        self._last = max(self._last, last)
        for changed in self._waiting:
            if not changed.done():
                changed.set_result(None)


def _make_tables(connection: sqlite3.Connection) -> None:
    """Makes what is missing; a file from before there were rows of runs is given them in the same transaction."""
    is_old = not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
    # executescript commits first: the transaction is begun within.
    connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {REBUILD if is_old else ''}; COMMIT")
