"""Governance notes in SQLite."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from pagi_chassis.lifecycle import StartError

from pagi_sandbox.domain.model import Note

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

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
    """A NoteStore and a component. One thread owns the connection: notes are few, and no call waits on a lock."""

    def __init__(self, path: Path) -> None:
        """The file and its directory are made at the start."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notes")
        self._connection: sqlite3.Connection | None = None

    async def start(self) -> None:
        """Opens the database.

        Raises:
            StartError: it cannot be opened.
        """
        try:
            await self._in_thread(self._open)
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"SANDBOX_DB_PATH={self._path} cannot be opened: {error}") from error

    async def stop(self) -> None:
        """Closes it after what was begun."""
        await self._in_thread(self._close)
        self._thread.shutdown()

    async def add(self, tenant: str, note: Note) -> tuple[Note, bool]:
        """Stores a note; see NoteStore."""
        return await self._in_thread(self._add, tenant, note)

    async def of_proposal(self, tenant: str, proposal_id: str, limit: int) -> Sequence[Note]:
        """Lists notes; see NoteStore."""
        return await self._in_thread(self._of_proposal, tenant, proposal_id, limit)

    async def _in_thread(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA busy_timeout=5000")
        self._connection.execute(_TABLE)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "the store was not started"
        return self._connection

    def _add(self, tenant: str, note: Note) -> tuple[Note, bool]:
        # The hash, because an index over long texts is something PostgreSQL does not build.
        digest = hashlib.sha256(note.note.encode()).hexdigest()
        # One statement is its own transaction; a repeat finds the first note.
        added = self._opened().execute(
            "INSERT INTO governance_notes"
            " (tenant, proposal_id, note, note_sha256, created_at, session_id, trace_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (tenant, note.proposal_id, note.note, digest, note.created_at, note.session_id, note.trace_id),
        )
        row = self._opened().execute(
            f"SELECT {_COLUMNS} FROM governance_notes"  # noqa: S608 a constant
            " WHERE tenant = ? AND proposal_id = ? AND note_sha256 = ?",
            (tenant, note.proposal_id, digest),
        )
        return Note(*row.fetchone()), added.rowcount == 1

    def _of_proposal(self, tenant: str, proposal_id: str, limit: int) -> Sequence[Note]:
        rows = self._opened().execute(
            f"SELECT {_COLUMNS} FROM governance_notes"  # noqa: S608 a constant
            " WHERE tenant = ? AND proposal_id = ? ORDER BY id DESC LIMIT ?",
            (tenant, proposal_id, limit),
        )
        return [Note(*row) for row in rows.fetchall()][::-1]
