"""A SQLite file that one thread owns: for what is written seldom, and no call waits on a lock."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from pagi_chassis.lifecycle import StartError

T = TypeVar("T")
P = ParamSpec("P")


class SqliteThread:
    """A component: the connection, and the thread that uses it."""

    def __init__(self, path: Path, tables: str, *, name: str) -> None:
        """`tables` are the statements that make what is missing; the file and its directory are made too."""
        self._path = path
        self._tables = tables
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None

    async def start(self) -> None:
        """Opens the database.

        Raises:
            StartError: it cannot be opened.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"SANDBOX_DB_PATH={self._path} cannot be opened: {error}") from error

    async def stop(self) -> None:
        """Closes it after what was begun."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def call(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What `work` makes of the connection, in the thread. Each statement is a transaction, unless it begins one."""

        def _work() -> T:
            assert self._connection is not None, "the store was not started"
            return work(self._connection, *arguments, **named)

        return await asyncio.get_running_loop().run_in_executor(self._thread, _work)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.execute("PRAGMA busy_timeout=5000")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(self._tables)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
