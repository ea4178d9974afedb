"""Sessions and turns in SQLite (Heart-KB)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pagi_memory.adapters.sqlite_database import SqliteDatabase
from pagi_memory.domain.model import SessionKey, Turn, TurnRole

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    persona TEXT NOT NULL,
    created_at_us BIGINT NOT NULL,
    updated_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, session_id)
);
CREATE TABLE IF NOT EXISTS turns (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    role TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, session_id, run_id, position)
);
CREATE INDEX IF NOT EXISTS turns_by_time ON turns (tenant, session_id, created_at_us, run_id, position);
"""

_UPSERT_SESSION = """
INSERT INTO sessions (tenant, session_id, persona, created_at_us, updated_at_us) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, session_id) DO UPDATE SET persona = excluded.persona, updated_at_us = excluded.updated_at_us
"""
_INSERT_TURN = """
INSERT INTO turns (tenant, session_id, run_id, position, role, body, created_at_us)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
# By the time at which it was said, not stored: a planner that could not reach memory stores later.
_NEWEST = """
SELECT role, body, run_id, position, created_at_us FROM turns WHERE tenant = ? AND session_id = ?
ORDER BY created_at_us DESC, run_id DESC, position DESC LIMIT ?
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteSessionStore:
    """`SessionStore` on a file of its own, because sessions cannot be made again and documents can."""

    def __init__(self, path: Path) -> None:
        self._database = SqliteDatabase(path, _SCHEMA)

    async def start(self) -> None:
        """Opens the file."""
        await self._database.start()

    async def stop(self) -> None:
        """Closes the file."""
        await self._database.stop()

    async def append(self, key: SessionKey, persona: str, turns: Sequence[Turn]) -> int:
        """See `SessionStore.append`."""
        rows = [
            (
                key.tenant,
                key.session_id,
                t.run_id,
                t.position,
                t.role.value,
                t.text,
                (t.created_at - _EPOCH) // _MICROSECOND,
            )
            for t in turns
        ]
        first, last = rows[0][-1], rows[-1][-1]

        def insert(connection: sqlite3.Connection) -> int:
            stored = connection.executemany(_INSERT_TURN, rows).rowcount
            if stored:
                connection.execute(_UPSERT_SESSION, (key.tenant, key.session_id, persona, first, last))
            return stored

        return await self._database.write(insert)

    async def newest(self, key: SessionKey, limit: int) -> list[Turn]:
        """See `SessionStore.newest`."""

        def select(connection: sqlite3.Connection) -> list[Turn]:
            rows = connection.execute(_NEWEST, (key.tenant, key.session_id, limit)).fetchall()
            return [_turn(*row) for row in reversed(rows)]

        return await self._database.read(select)


def _turn(role: str, body: str, run_id: str, position: int, created_at_us: int) -> Turn:
    return Turn(TurnRole(role), body, run_id, position, _EPOCH + created_at_us * _MICROSECOND)
