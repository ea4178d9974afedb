"""One thread that writes to a SQLite file: everything that waits goes into one transaction.

WAL with synchronous=NORMAL: what is committed survives the death of the process, not that of the machine
(https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """One statement in line; `done` hears when it is committed, or why it is not."""

    sql: str
    values: tuple[Any, ...]
    done: asyncio.Future[None] | None = None


class SqliteGroupCommit:
    """Writes in the order in which statements come.

    Args:
        connection: used by the thread alone, which closes it.
        after_commit: called in the thread, outside any transaction, after each commit.
    """

    def __init__(self, connection: sqlite3.Connection, after_commit: Callable[[sqlite3.Connection], None]) -> None:
        self._connection = connection
        self._after_commit = after_commit
        self._loop = asyncio.get_running_loop()
        self._line: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="effects-writer")
        self._thread.start()

    def put(self, sql: str, values: tuple[Any, ...]) -> asyncio.Future[None]:
        """Puts a statement in line. The future is done once it is committed, and need not be awaited."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._line.put(Write(sql, values, done))
        return done

    async def close(self) -> None:
        """Writes what is in line, then ends."""
        self._line.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        is_open = True
        while is_open:
            entries = self._in_line()
            writes = [entry for entry in entries if entry is not None]
            is_open = len(writes) == len(entries)
            faults = self._store(writes)
            self._loop.call_soon_threadsafe(_tell, writes, faults)
            try:
                self._after_commit(self._connection)
            except Exception:
                # This thread must live: a failed clean-up is tried again after the next commit.
                log.exception("the ledger cannot be cleaned up")
        self._connection.close()

    def _in_line(self) -> list[Write | None]:
        """Waits for the first entry, and takes all that stand behind it."""
        entries = [self._line.get()]
        while True:
            try:
                entries.append(self._line.get_nowait())
            except queue.Empty:
                return entries

    def _store(self, writes: Sequence[Write]) -> Sequence[Exception | None]:
        if not writes:
            return []
        fault = self._commit(writes)
        if fault is None or len(writes) == 1:
            return [fault] * len(writes)
        # Each alone: one bad statement must not cost the others theirs.
        return [self._commit([write]) for write in writes]

    def _commit(self, writes: Sequence[Write]) -> Exception | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                self._connection.execute(write.sql, write.values)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 this thread must live; whoever waits is told
            # A full disk may have rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return error
        return None


def _tell(writes: Sequence[Write], faults: Sequence[Exception | None]) -> None:
    for write, fault in zip(writes, faults, strict=True):
        if write.done is None or write.done.done():
            continue
        if fault is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(fault)
