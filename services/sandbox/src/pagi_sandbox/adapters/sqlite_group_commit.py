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
from functools import partial
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

# A commit costs as much as forty rows, and waking the thread as much as ten: what nobody waits for gathers first.
_GATHER_S = 0.05


class Write(NamedTuple):
    """One statement in line; `told` hears, in the event loop, that it is committed (None) or why it is not."""

    sql: str
    values: tuple[Any, ...]
    told: Callable[[Exception | None], None]


class _Gathered(NamedTuple):
    """A statement whose values are not made yet."""

    sql: str
    make_values: Callable[[], tuple[Any, ...]]
    told: Callable[[Exception | None], None]


class SqliteGroupCommit:
    """Writes in the order in which statements come.

    Args:
        connection: used by the thread alone, which closes it.
        after_commit: called in the thread, outside any transaction, after each commit, with what was committed.
    """

    def __init__(
        self, connection: sqlite3.Connection, after_commit: Callable[[sqlite3.Connection, Sequence[Write]], None]
    ) -> None:
        self._connection = connection
        self._after_commit = after_commit
        self._loop = asyncio.get_running_loop()
        self._line: queue.SimpleQueue[Sequence[Write] | None] = queue.SimpleQueue()
        self._gathered: list[_Gathered] = []
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._work, name="effects-writer")
        self._thread.start()

    def commit(self, sql: str, values: tuple[Any, ...]) -> asyncio.Future[None]:
        """Puts a statement in line. The future is done once it is committed."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.put(Write(sql, values, partial(_settle, done)))
        return done

    def put(self, write: Write) -> None:
        """Puts a statement in line."""
        self._hand_over(write)

    def put_soon(
        self, sql: str, make_values: Callable[[], tuple[Any, ...]], told: Callable[[Exception | None], None]
    ) -> None:
        """Puts a statement in line that may wait: for the next one that may not, or 50 ms.

        Its values are made then: ten after each other take a fraction of what each takes between other things. Where
        they cannot be made, `told` hears why.
        """
        self._gathered.append(_Gathered(sql, make_values, told))
        if self._timer is None:
            self._timer = self._loop.call_later(_GATHER_S, self._hand_over)

    def _hand_over(self, *writes: Write) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, []
        made: list[Write] = []
        for each in gathered:
            try:
                made.append(Write(each.sql, each.make_values(), each.told))
            except Exception as error:  # noqa: BLE001 it must not cost the others theirs; whoever waits is told
                each.told(error)
        self._line.put([*made, *writes])

    async def close(self) -> None:
        """Writes what is in line, then ends."""
        self._hand_over()
        self._line.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        is_open = True
        while is_open:
            entries = self._in_line()
            is_open = None not in entries
            writes = [write for entry in entries if entry is not None for write in entry]
            faults = self._store(writes)
            self._loop.call_soon_threadsafe(_tell, writes, faults)
            try:
                kept = [write for write, fault in zip(writes, faults, strict=True) if fault is None]
                self._after_commit(self._connection, kept)
            except Exception:
                # This thread must live: a failed clean-up is tried again after the next commit.
                log.exception("the ledger cannot be cleaned up")
        self._connection.close()

    def _in_line(self) -> list[Sequence[Write] | None]:
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
        write.told(fault)


def _settle(done: asyncio.Future[None], fault: Exception | None) -> None:
    if done.done():
        return
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)
