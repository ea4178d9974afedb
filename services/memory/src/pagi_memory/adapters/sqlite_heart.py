"""Sessions, turns and playbooks in one SQLite file of their own: they cannot be made again, and documents can."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from pagi_memory.adapters.sql_heart_schema import schema
from pagi_memory.adapters.sql_playbook_vectors import carried_over
from pagi_memory.adapters.sql_script import Repeated, Row, Script
from pagi_memory.adapters.sqlite_database import SqliteDatabase

R = TypeVar("R")

# What the first version kept; it had no numbers, titles and words.
_COLUMNS = "SELECT name FROM pragma_table_info('sessions')"
_CARRY_OVER = (
    """
    INSERT INTO sessions (tenant, session_id, persona, title, created_at_us, updated_at_us)
    SELECT tenant, session_id, persona, coalesce((
        SELECT substr(body, 1, 80) FROM first_turns AS said
        WHERE said.tenant = first_sessions.tenant AND said.session_id = first_sessions.session_id AND role = 'user'
        ORDER BY created_at_us, run_id, position LIMIT 1
    ), ''), created_at_us, updated_at_us FROM first_sessions
    """,
    """
    INSERT INTO turns (tenant, session_id, run_id, position, role, body, created_at_us)
    SELECT tenant, session_id, run_id, position, role, body, created_at_us
    FROM first_turns ORDER BY created_at_us, run_id, position
    """,
    """
    INSERT INTO turn_words (rowid, owner, words)
    SELECT number, 't' || lower(hex(tenant)), substr(body, 1, 20000) FROM turns
    """,
    "DROP TABLE first_turns",
    "DROP TABLE first_sessions",
)


class SqliteHeart:
    """`SqlDatabase` on one file, for one process."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, path: Path) -> None:
        self._database = SqliteDatabase(path, "")

    async def start(self) -> None:
        """Opens the file; one of the first version is carried over, in one transaction."""
        await self._database.start()
        await self._database.write(_make_tables)

    async def stop(self) -> None:
        """Closes the file."""
        await self._database.stop()

    async def read(self, script: Callable[[], Script[R]]) -> R:
        """See `SqlDatabase.read`."""
        return await self._database.read(lambda connection: _read(connection, script()))

    async def write(self, script: Callable[[], Script[R]], *, after: Callable[[], None] | None = None) -> R:
        """See `SqlDatabase.write`."""
        return await self._database.write(lambda connection: _run(connection, script()), after=after)


def _read(connection: sqlite3.Connection, script: Script[R]) -> R:
    # All statements see one state: turns and the summary of those before them are of one moment.
    connection.execute("BEGIN")
    try:
        return _run(connection, script)
    finally:
        # Some failures have ended it already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _run(connection: sqlite3.Connection, script: Script[R]) -> R:
    try:
        step = next(script)
        while True:
            rows: list[Row] = []
            if isinstance(step, Repeated):
                connection.executemany(step.sql, step.parameters)
            else:
                rows = connection.execute(step.sql, step.parameters).fetchall()
            step = script.send(rows)
    except StopIteration as end:
        result: R = end.value
        return result


def _make_tables(connection: sqlite3.Connection) -> None:
    columns = {name for (name,) in connection.execute(_COLUMNS)}
    is_first = bool(columns) and "title" not in columns
    if is_first:
        connection.execute("DROP INDEX turns_by_time")
        connection.execute("ALTER TABLE turns RENAME TO first_turns")
        connection.execute("ALTER TABLE sessions RENAME TO first_sessions")
    for statement in (*schema("sqlite"), *(_CARRY_OVER if is_first else ())):
        connection.execute(statement)
    _run(connection, carried_over("sqlite"))
