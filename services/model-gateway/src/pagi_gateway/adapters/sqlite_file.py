"""The gateway's SQLite file: one thread writes, everything that waits goes into one transaction; another one reads.

WAL with synchronous=NORMAL: what is committed survives the death of the process, not that of the machine
(https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pagi_chassis.component import StartError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")
# Nobody waits for what is written here, so it gathers for a moment: a commit costs as much as forty rows.
_GATHER_S = 0.02


class Write(NamedTuple):
    """One statement in line; `done` is called in the event loop when it is committed, or when it cannot be."""

    sql: str
    values: tuple[Any, ...]
    done: Callable[[], None] | None = None


# What is done in the writer's thread after a commit, outside any transaction, with what was written.
AfterCommit = Callable[[sqlite3.Connection, Sequence[Write]], None]


class SqliteFile:
    """A component. Whoever keeps tables in it is started after it and stopped before it.

    Args:
        path: The file; it and its folder are made where they are missing, the file for its owner only.
        variable: The setting that names it, for messages.
    """

    def __init__(self, path: Path, *, variable: str) -> None:
        self._path = path
        self._variable = variable
        self._line: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._after_commit: list[AfterCommit] = []
        self._reader: ThreadPoolExecutor | None = None
        self._reading: sqlite3.Connection | None = None
        self._writer: threading.Thread | None = None

    async def start(self) -> None:
        """Opens the file.

        Raises:
            StartError: It cannot be opened.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # It holds what models wrote: for its owner's eyes. What SQLite puts beside it has the same mode.
            self._path.touch(mode=0o600)
            self._reading, writing = self._connect(), self._connect()
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"{self._variable}={self._path} cannot be opened: {error}") from error
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="gateway-reader")
        loop = asyncio.get_running_loop()
        self._writer = threading.Thread(target=self._write, args=(writing, loop), name="gateway-writer", daemon=True)
        self._writer.start()

    async def stop(self) -> None:
        """Writes what is in line, then closes."""
        if self._writer is not None:
            self._line.put(None)
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        if self._reader is not None:
            self._reader.shutdown()
            self._reader = None
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def prepare(self, script: str, load: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Makes tables and reads what is in them; for `start` of those who keep them.

        Raises:
            StartError: The file is none of ours, or broken.
        """
        assert self._reading is not None, "the file is started first"
        try:
            self._reading.executescript(script)
            return self._reading.execute(load, values).fetchall()
        except sqlite3.Error as error:
            raise StartError(f"{self._variable}={self._path} cannot be read: {error}") from error

    def put(self, write: Write) -> None:
        """Puts a statement in line."""
        self._line.put(write)

    async def read(self, sql: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The first row.

        Raises:
            sqlite3.Error: The file cannot be read, or is closed.
        """
        reading, reader = self._reading, self._reader
        if reading is None or reader is None:
            raise sqlite3.ProgrammingError("the file is closed")
        row: tuple[Any, ...] | None = await asyncio.get_running_loop().run_in_executor(
            reader, lambda: reading.execute(sql, values).fetchone()
        )
        return row

    async def flushed(self) -> None:
        """Waits until everything put in line so far is committed."""
        done = asyncio.Event()
        self.put(Write("SELECT 1", (), done.set))
        await done.wait()

    def after_commit(self, work: AfterCommit) -> None:
        """Does `work` after each commit."""
        self._after_commit.append(work)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        # In KiB: rows are written once and seldom read, so that a large cache holds what nobody wants.
        connection.execute("PRAGMA cache_size=-256")
        return connection

    # In the writer's thread.

    def _write(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        is_open = True
        while is_open:
            entries = self._in_line()
            writes = [entry for entry in entries if entry is not None]
            is_open = len(writes) == len(entries)
            _store(connection, writes)
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, writes)
            for work in self._after_commit:
                try:
                    work(connection, writes)
                except Exception:
                    # This thread must live: what failed is tried again after the next commit.
                    log.exception("%s cannot be cleaned up", self._path)
        connection.close()

    def _in_line(self) -> list[Write | None]:
        """Waits for the first entry, gathers for a moment, and takes all that stand in line."""
        entries = [self._line.get()]
        if entries[0] is not None:
            time.sleep(_GATHER_S)
        while True:
            try:
                entries.append(self._line.get_nowait())
            except queue.Empty:
                return entries


def _store(connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
    if not writes or _commit(connection, writes) is None:
        return
    # Each alone: one bad statement must not cost the others theirs.
    faults = [fault for write in writes if (fault := _commit(connection, [write])) is not None]
    if faults:
        log.error("%d of %d statements are not kept, the last: %s", len(faults), len(writes), faults[-1])


def _commit(connection: sqlite3.Connection, writes: Sequence[Write]) -> Exception | None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        for write in writes:
            connection.execute(write.sql, write.values)
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 this thread must live; it is logged by who called
        # A full disk may have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return error
    return None


def _tell(writes: Sequence[Write]) -> None:
    for write in writes:
        if write.done is not None:
            write.done()
