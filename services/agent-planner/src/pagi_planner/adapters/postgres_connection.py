"""How the journal reaches PostgreSQL, and which of its errors pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pagi_chassis.component import StartError

from pagi_planner.domain.errors import JournalError

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]  # it brings no types

CONNECT_TIMEOUT_S = 5.0
# Every statement of ours is over by then, done or not.
STATEMENT_TIMEOUT_S = 10.0
_READERS = 4


class PostgresServer:
    """A server with its pool of connections.

    Args:
        url: `postgresql://user:password@host:port/database`.
        read_only: The server refuses every statement that would change something.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._url = url
        self._options = _options(read_only)
        self._pool: asyncpg.Pool[Any] | None = None

    @property
    def place(self) -> str:
        """Where it is, without the password."""
        parts = urlsplit(self._url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"

    async def start(self) -> None:
        """Connects.

        Raises:
            StartError: asyncpg is not installed.
            JournalError: The server cannot be reached or refuses.
        """
        try:
            # An extra: most installations keep their journal in a file.
            import asyncpg
        except ImportError as error:
            raise StartError(
                "PAGI_AUDIT_DATABASE_URL is set and asyncpg is not installed: pip install 'pagi-planner[postgresql]'"
            ) from error
        try:
            self._pool = await asyncpg.create_pool(self._url, min_size=1, max_size=_READERS, **self._options)
        except _faults() as error:
            raise self.away(error) from error

    async def stop(self) -> None:
        """Disconnects."""
        if self._pool:
            pool, self._pool = self._pool, None
            await pool.close()

    async def connect(self) -> Any:
        """A connection beside the pool.

        Raises:
            JournalError: The server cannot be reached or refuses.
        """
        import asyncpg

        try:
            return await asyncpg.connect(self._url, **self._options)
        except _faults() as error:
            raise self.away(error) from error

    async def fetch(self, sql: str, *values: Any) -> Sequence[Any]:
        """Runs one statement.

        Raises:
            JournalError: The server cannot be reached, or refuses.
        """
        if self._pool is None:
            raise JournalError("the journal is closed")
        try:
            rows: Sequence[Any] = await self._pool.fetch(sql, *values)
        except _faults() as error:
            raise self.away(error) from error
        return rows

    async def make(self, schema: str, lock: int) -> None:
        """Makes the tables that are missing, one planner at a time.

        Raises:
            JournalError: The server cannot be reached, or refuses.
        """
        connection = await self.connect()
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", lock)
                await connection.execute(schema)
        except _faults() as error:
            raise self.away(error) from error
        finally:
            await connection.close()

    def away(self, error: BaseException) -> JournalError:
        """The error as a run reads it."""
        return JournalError(
            f"the journal in PostgreSQL at {self.place} cannot be used: {error or type(error).__name__}"
        )


def passes(error: BaseException) -> bool:
    """Whether the same statement may well do on another connection, or a moment later."""
    import asyncpg

    return isinstance(
        error,
        (
            OSError,
            TimeoutError,
            asyncpg.PostgresConnectionError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            asyncpg.OperatorInterventionError,
            asyncpg.DeadlockDetectedError,
            asyncpg.TooManyConnectionsError,
            # What `connect` says of all of these.
            JournalError,
        ),
        # A value that no column takes is an InterfaceError, too.
    ) and not isinstance(error, ValueError)


def _options(read_only: bool) -> dict[str, Any]:
    return {
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": STATEMENT_TIMEOUT_S,
        "server_settings": {
            "application_name": "pagi-agent-planner",
            "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
            # A process that hangs must not keep rows locked.
            "idle_in_transaction_session_timeout": "5000",
            **({"default_transaction_read_only": "on"} if read_only else {}),
        },
    }


def _faults() -> tuple[type[BaseException], ...]:
    import asyncpg

    # The last but one is what asyncpg says of a connection that was cut off in the middle of a statement.
    return (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        ValueError,
    )
