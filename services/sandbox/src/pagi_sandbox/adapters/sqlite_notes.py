"""Governance notes in SQLite."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pagi_sandbox.adapters.sqlite_thread import SqliteThread
from pagi_sandbox.domain.model import Note

_TABLE = """
CREATE TABLE IF NOT EXISTS governance_notes (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    proposal_id TEXT NOT NULL,
    note TEXT NOT NULL,
    note_sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL,
    session_id TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    UNIQUE (tenant, proposal_id, note_sha256)
)
"""
_COLUMNS = "id, proposal_id, note, created_at, session_id, trace_id"


class SqliteNoteStore:
    """A NoteStore and a component."""

    def __init__(self, path: Path) -> None:
        """The file and its directory are made at the start."""
        self._database = SqliteThread(path, _TABLE, name="notes")

    async def start(self) -> None:
        """Opens the database.

        Raises:
            StartError: it cannot be opened.
        """
        await self._database.start()

    async def stop(self) -> None:
        """Closes it after what was begun."""
        await self._database.stop()

    async def add(self, tenant: str, note: Note) -> tuple[Note, bool]:
        """Stores a note; see NoteStore."""
        return await self._database.call(_add, tenant, note)

    async def of_proposal(self, tenant: str, proposal_id: str, limit: int) -> Sequence[Note]:
        """Lists notes; see NoteStore."""
        return await self._database.call(_of_proposal, tenant, proposal_id, limit)


def _add(connection: sqlite3.Connection, tenant: str, note: Note) -> tuple[Note, bool]:
    # The hash, because an index over long texts is something PostgreSQL does not build.
    digest = hashlib.sha256(note.note.encode()).hexdigest()
    # One statement is its own transaction; a repeat finds the first note.
    added = connection.execute(
        "INSERT INTO governance_notes"
        " (tenant, proposal_id, note, note_sha256, created_at, session_id, trace_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (tenant, note.proposal_id, note.note, digest, note.created_at, note.session_id, note.trace_id),
    )
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM governance_notes"  # noqa: S608 a constant
        " WHERE tenant = ? AND proposal_id = ? AND note_sha256 = ?",
        (tenant, note.proposal_id, digest),
    )
    return Note(*row.fetchone()), added.rowcount == 1


def _of_proposal(connection: sqlite3.Connection, tenant: str, proposal_id: str, limit: int) -> Sequence[Note]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM governance_notes"  # noqa: S608 a constant
        " WHERE tenant = ? AND proposal_id = ? ORDER BY id DESC LIMIT ?",
        (tenant, proposal_id, limit),
    )
    return [Note(*row) for row in rows.fetchall()][::-1]
