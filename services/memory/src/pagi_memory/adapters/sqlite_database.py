"""One SQLite file: a thread that writes, threads that read."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pagi_memory.domain.errors import StoreUnavailableError

R = TypeVar("R")

_BUSY_TIMEOUT_S = 5.0


class SqliteDatabase:
    """Runs functions on connections of a file, off the event loop.

    WAL lets readers go on while one writes. `synchronous=NORMAL` keeps every commit over the death of the
    process; the death of the machine may cost the last ones, never the file. One writer thread, so that no
    writer waits for a lock.
    """

    def __init__(self, path: Path, schema: str, *, readers: int = 2) -> None:
        self._path = path
        self._schema = schema
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-write")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix=f"{path.stem}-read")
        self._of_thread = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def start(self) -> None:
        """Opens the file, making it and its tables where they are not there.

        Raises:
            StoreUnavailableError: The file cannot be opened or is no database.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await self._run(self._writer, lambda connection: connection.executescript(self._schema) and None)

    async def stop(self) -> None:
        """Finishes what was asked for and closes the file."""
        await asyncio.to_thread(self._close)

    async def read(self, query: Callable[[sqlite3.Connection], R]) -> R:
        """Runs a function that only reads.

        Raises:
            StoreUnavailableError: The file cannot be read.
        """
        return await self._run(self._readers, query)

    async def write(self, change: Callable[[sqlite3.Connection], R]) -> R:
        """Runs a function in one transaction: all that it does is kept, or nothing where it raises.

        Raises:
            StoreUnavailableError: The file cannot be written: locked by another process, disk full.
        """

        def in_transaction(connection: sqlite3.Connection) -> R:
            # IMMEDIATE: a read that turns into a write fails at once when another process writes.
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = change(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            return result

        return await self._run(self._writer, in_transaction)

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
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
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
