"""One SQLite file: a thread that writes, threads that read."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pagi_memory.adapters.process_lock import REMEDY, ProcessLock
from pagi_memory.domain.errors import StoreInUseError, StoreUnavailableError

R = TypeVar("R")

BUSY_TIMEOUT_S = 5.0
# So many changes are committed together: a large one must not make many small ones wait.
_MOST_TOGETHER = 64


class _Change(NamedTuple):
    change: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    after: Callable[[], None] | None


class SqliteDatabase:
    """Runs functions on connections of a file that one process owns, off the event loop.

    What was read may be kept while this process does not change it: another one is refused.

    WAL lets readers go on while one writes. `synchronous=NORMAL` keeps every commit over the death of the
    process; the death of the machine may cost the last ones, never the file. One writer thread, so that no
    writer waits for a lock; what is asked for while it writes is committed together.
    """

    def __init__(self, path: Path, schema: str, *, readers: int = 2, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = path
        self._schema = schema
        self._busy_timeout_s = busy_timeout_s
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-write")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix=f"{path.stem}-read")
        self._of_thread = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = ProcessLock(path, self._refusal)
        self._waiting: list[_Change] = []
        self._committing: asyncio.Task[None] | None = None

    async def start(self, *, first: Callable[[], None] = lambda: None) -> None:
        """Opens the file, making it and its tables where they are not there.

        Args:
            first: Called when this process has the file, before it is opened.

        Raises:
            StoreInUseError: Another process has it.
            StoreUnavailableError: The file cannot be opened or is no database.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        first()
        await self._run(self._writer, lambda connection: connection.executescript(self._schema) and None)

    async def stop(self) -> None:
        """Finishes what was asked for and closes the file."""
        if self._committing:
            await self._committing
        await asyncio.to_thread(self._close)

    async def read(self, query: Callable[[sqlite3.Connection], R]) -> R:
        """Runs a function that only reads.

        Raises:
            StoreUnavailableError: The file cannot be read.
        """
        return await self._run(self._readers, query)

    async def write(self, change: Callable[[sqlite3.Connection], R], *, after: Callable[[], None] | None = None) -> R:
        """Runs a function in a transaction: all that it does is kept, or nothing where it raises.

        Others may be in the same transaction. Where one of them raises, it is undone and each is run again by itself,
        so a function must bear that.

        Args:
            change: What is done.
            after: Called on the event loop when it was committed or was not, before anybody is told, and also where
                whoever asked has gone meanwhile.

        Raises:
            StoreUnavailableError: The file cannot be written: locked by another process, disk full.
        """
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Change(change, done, after))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit(), name=f"{self._path.stem} commits")
        return await done

    async def _commit(self) -> None:
        """Commits until nobody waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                changes, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
                # Who has gone before it began wants nothing any more.
                wanted = [each for each in changes if not each.done.done()]
                functions = [each.change for each in wanted]
                try:
                    outcomes = await loop.run_in_executor(self._writer, self._written, functions)
                except RuntimeError as error:
                    # Asked for after the stop.
                    outcomes = [error] * len(wanted)
                for each in changes:
                    if each.after:
                        each.after()
                for each, outcome in zip(wanted, outcomes, strict=True):
                    self._tell(each.done, outcome)
        finally:
            self._committing = None

    def _written(self, changes: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """The result of each, or what it raised."""
        try:
            connection = self._connection()
            # IMMEDIATE: a read that turns into a write fails at once when another process writes.
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # Another process writes: none of them could.
            return [error] * len(changes)
        try:
            results = [change(connection) for change in changes]
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the one who asked for it gets it
            # Some failures, such as a full disk, have undone it already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(changes) == 1:
                return [error]
            return [outcome for change in changes for outcome in self._written([change])]
        return results

    def _tell(self, done: asyncio.Future[Any], outcome: Any) -> None:
        if done.done():
            return
        if isinstance(outcome, sqlite3.Error):
            error = StoreUnavailableError(f"The database {self._path.name} cannot be used: {outcome}")
            error.__cause__ = outcome
            done.set_exception(error)
        elif isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

    async def _run(self, threads: ThreadPoolExecutor, function: Callable[[sqlite3.Connection], R]) -> R:
        def on_connection() -> R:
            return function(self._connection())

        try:
            return await asyncio.get_running_loop().run_in_executor(threads, on_connection)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"The database {self._path.name} cannot be used: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            # Closed by the thread that stops the service, hence check_same_thread.
            connection = sqlite3.connect(
                self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            self._connections.append(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._of_thread.connection = connection
        return connection

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._lock.release()

    def _refusal(self, owner: str) -> StoreInUseError:
        return StoreInUseError(
            f"The database {self._path} is in use by process {owner}, and neither would see what the other changes. "
            f"{REMEDY}"
        )
