"""Sessions, turns and playbooks in PostgreSQL, for any number of processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pagi_chassis.component import StartError

from pagi_memory.adapters.sql_heart_schema import schema
from pagi_memory.adapters.sql_playbook_vectors import carried_over
from pagi_memory.adapters.sql_script import Repeated, Row, Script, Statement
from pagi_memory.domain.errors import StoreUnavailableError

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]  # it brings no types

R = TypeVar("R")

_CONNECTIONS = 8
_CONNECT_TIMEOUT_S = 10.0
_STATEMENT_TIMEOUT_S = 30.0
# For the tables of an older version: about a minute for a million turns.
_MIGRATION_TIMEOUT_S = 3_600.0
# Another process of ours makes the same tables at the same time: the number is any one that nobody else uses.
_SCHEMA_LOCK = 7_210_850_052
# Two transactions that met: one of them is run again.
_MOST_TRIES = 5


class PostgresHeart:
    """`SqlDatabase` on a PostgreSQL server.

    Args:
        url: `postgresql://user:password@host:port/database`.
    """

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool[Any] | None = None

    @property
    def _place(self) -> str:
        """Where it is, without the password."""
        parts = urlsplit(self._url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"

    async def start(self) -> None:
        """Connects and makes the tables.

        Raises:
            StartError: asyncpg is not installed.
            StoreUnavailableError: The server cannot be reached or refuses.
        """
        try:
            # An extra: most installations keep their sessions in a file.
            import asyncpg
        except ImportError as error:
            raise StartError(
                "HEART_DATABASE_URL is set and asyncpg is not installed: pip install 'pagi-memory[postgresql]'"
            ) from error
        try:
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=_CONNECTIONS,
                timeout=_CONNECT_TIMEOUT_S,
                command_timeout=_STATEMENT_TIMEOUT_S,
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise StoreUnavailableError(f"PostgreSQL at {self._place} cannot be used: {error}") from error
        await self._in_transaction(_make_tables, timeout_s=_MIGRATION_TIMEOUT_S)

    async def stop(self) -> None:
        """Waits for what is under way and disconnects."""
        if self._pool:
            await self._pool.close()

    async def check_health(self) -> None:
        """Does nothing where the server answers.

        Raises:
            StoreUnavailableError: It does not.
        """
        await self.read(_ask_nothing)

    async def read(self, script: Callable[[], Script[R]]) -> R:
        """See `SqlDatabase.read`. A transaction too, so that all statements see one state."""
        return await self._in_transaction(script, isolation="repeatable_read", readonly=True)

    async def write(self, script: Callable[[], Script[R]], *, after: Callable[[], None] | None = None) -> R:
        """See `SqlDatabase.write`."""
        try:
            return await self._in_transaction(script)
        finally:
            if after:
                after()

    async def _in_transaction(
        self, script: Callable[[], Script[R]], *, timeout_s: float | None = None, **how: Any
    ) -> R:
        import asyncpg

        if self._pool is None:
            raise StoreUnavailableError(f"PostgreSQL at {self._place} is not connected.")
        tries = 0
        while True:
            tries += 1
            try:
                async with self._pool.acquire() as connection, connection.transaction(**how):
                    return await _run(connection, script(), timeout_s)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
                if tries == _MOST_TRIES:
                    raise StoreUnavailableError(f"PostgreSQL at {self._place} is contended: {error}") from error
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise StoreUnavailableError(f"PostgreSQL at {self._place} cannot be used: {error}") from error


async def _run(connection: Any, script: Script[R], timeout_s: float | None) -> R:
    try:
        step = next(script)
        while True:
            rows: list[Row] = []
            if isinstance(step, Repeated):
                await connection.executemany(_numbered(step.sql), step.parameters, timeout=timeout_s)
            else:
                rows = await connection.fetch(_numbered(step.sql), *step.parameters, timeout=timeout_s)
            step = script.send(rows)
    except StopIteration as end:
        result: R = end.value
        return result


@functools.lru_cache(maxsize=512)
def _numbered(sql: str) -> str:
    """The statement with $1, $2, … in the place of each "?"."""
    parts = sql.split("?")
    return parts[0] + "".join(f"${place}{part}" for place, part in enumerate(parts[1:], 1))


def _ask_nothing() -> Script[None]:
    yield Statement("SELECT 1")


def _make_tables() -> Script[None]:
    yield Statement("SELECT pg_advisory_xact_lock(?)", (_SCHEMA_LOCK,))
    for statement in schema("postgresql"):
        yield Statement(statement)
    yield from carried_over("postgresql")
