"""The effect ledger in SQLite."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi_chassis.lifecycle import StartError

from pagi_sandbox.adapters.sqlite_group_commit import SqliteGroupCommit, Write
from pagi_sandbox.convert import outcome_from_proto, outcome_to_proto
from pagi_sandbox.domain.errors import LedgerError
from pagi_sandbox.domain.model import EffectName, KnownEffect, ToolOutcome

log = logging.getLogger(__name__)

# A row without a result has begun. `size` is what the row counts for, in bytes.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS effects (
    tenant TEXT NOT NULL,
    effect_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    noted_at REAL NOT NULL,
    size INTEGER NOT NULL,
    result BLOB,
    PRIMARY KEY (tenant, effect_id)
);
CREATE INDEX IF NOT EXISTS effects_by_age ON effects (noted_at);
"""
_NOTE = (
    "INSERT INTO effects (tenant, effect_id, fingerprint, noted_at, size, result) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (tenant, effect_id) DO UPDATE SET fingerprint = excluded.fingerprint,"
    " noted_at = excluded.noted_at, size = excluded.size, result = excluded.result"
)
_FORGET = "DELETE FROM effects WHERE tenant = ? AND effect_id = ?"
_FIND = "SELECT fingerprint, result FROM effects WHERE tenant = ? AND effect_id = ?"
_TOO_OLD = "DELETE FROM effects WHERE noted_at < ? RETURNING tenant, effect_id, size"
# What began and did not end is kept until it is too old: it is small, and forgetting it would let it run again.
_OLDEST = (
    "DELETE FROM effects WHERE (tenant, effect_id) IN"
    " (SELECT tenant, effect_id FROM effects WHERE result IS NOT NULL ORDER BY noted_at LIMIT 64)"
    " RETURNING tenant, effect_id, size"
)
_SIZE = 4  # where it stands in the values of _NOTE
# What a row costs besides its result, on disk and in memory.
_ROW_BYTES = 1024
_CLEAN_UP_EVERY_S = 60.0


class SqliteEffectLedger:
    """An EffectLedger and a component.

    Which effects are known is held in memory as a set of hashes, so that a new effect costs no read.
    """

    def __init__(self, path: Path, *, max_age_s: float, max_bytes: int, now: Callable[[], float] = time.time) -> None:
        """Results are kept for `max_age_s` seconds; the oldest go earlier where all take more than `max_bytes`."""
        self._path = path
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._now = now
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="effects-reader")
        self._reading: sqlite3.Connection | None = None
        self._writer: SqliteGroupCommit | None = None
        self._known: set[int] = set()
        # What is in line to be written, so that a repeat that comes sooner finds it; None: that it is forgotten.
        self._unwritten: dict[EffectName, KnownEffect | None] = {}
        # What all rows count for, or a little more: one that replaces another is counted again until a clean-up.
        self._held = 0
        self._cleaned_at = 0.0

    async def start(self) -> None:
        """Opens the file.

        Raises:
            StartError: it cannot be opened.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._reading = self._connect()
            self._reading.executescript(_SCHEMA)
            rows = self._reading.execute("SELECT tenant, effect_id, size FROM effects").fetchall()
            self._known = {hash(EffectName(tenant, effect_id)) for tenant, effect_id, _ in rows}
            self._held = sum(size for *_, size in rows)
            loop = asyncio.get_running_loop()
            self._writer = SqliteGroupCommit(self._connect(), partial(self._clean_up, loop))
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"SANDBOX_LEDGER_PATH={self._path} cannot be opened: {error}") from error

    async def stop(self) -> None:
        """Writes what is in line, then closes."""
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        self._reader.shutdown()
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    async def find(self, name: EffectName) -> KnownEffect | None:
        """What is known; see EffectLedger."""
        if hash(name) not in self._known:
            return None
        if name in self._unwritten:
            return self._unwritten[name]
        if (reading := self._reading) is None:
            raise LedgerError("the effect ledger is closed")
        try:
            row = await asyncio.get_running_loop().run_in_executor(
                self._reader, lambda: reading.execute(_FIND, (name.tenant, name.effect_id)).fetchone()
            )
        except sqlite3.Error as error:
            raise LedgerError(f"the effect ledger cannot be read: {error}") from error
        if row is None:
            return None
        fingerprint, result = row
        return KnownEffect(fingerprint, _outcome(result) if result is not None else None)

    async def begin(self, name: EffectName, fingerprint: str) -> None:
        """Notes that it begins; see EffectLedger."""
        try:
            await asyncio.shield(self._note(name, KnownEffect(fingerprint)))
        except sqlite3.Error as error:
            raise LedgerError(f"the effect ledger cannot be written ({error}); the tool was not started") from error

    async def finish(self, name: EffectName, fingerprint: str, outcome: ToolOutcome) -> None:
        """Notes how it ended; see EffectLedger."""
        try:
            await asyncio.shield(self._note(name, KnownEffect(fingerprint, outcome)))
        except (sqlite3.Error, LedgerError) as error:
            log.error("the result of an effect is not kept: %s", error, extra={"effect_id": name.effect_id})

    def finish_soon(self, name: EffectName, fingerprint: str, outcome: ToolOutcome) -> None:
        """Notes how it ended without waiting; see EffectLedger."""
        if self._writer is not None:  # else the service is being stopped
            known = KnownEffect(fingerprint, outcome)
            self._hold(name, known)
            self._writer.put_soon(_NOTE, partial(_row, name, known, self._now()), partial(self._told, name, known))

    def forget(self, name: EffectName) -> None:
        """It did not begin; see EffectLedger."""
        if self._writer is not None:
            self._unwritten[name] = None
            self._writer.put(Write(_FORGET, tuple(name), partial(self._told, name, None)))

    def _note(self, name: EffectName, known: KnownEffect) -> asyncio.Future[None]:
        if self._writer is None:
            raise LedgerError("the effect ledger is closed")
        row = _row(name, known, self._now())
        self._hold(name, known)
        noted = self._writer.commit(_NOTE, row)
        noted.add_done_callback(lambda _: self._written(name, known))
        return noted

    def _hold(self, name: EffectName, known: KnownEffect) -> None:
        """Until it is written it is known from here."""
        self._known.add(hash(name))
        self._unwritten[name] = known

    def _told(self, name: EffectName, known: KnownEffect | None, fault: Exception | None) -> None:
        self._written(name, known)
        if fault is not None:
            log.error("an effect is not kept: %s", fault, extra={"effect_id": name.effect_id})

    def _written(self, name: EffectName, known: KnownEffect | None) -> None:
        # Unless something newer stands in line behind it.
        if name in self._unwritten and self._unwritten[name] is known:
            del self._unwritten[name]

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    # In the writer's thread.

    def _clean_up(
        self, loop: asyncio.AbstractEventLoop, connection: sqlite3.Connection, writes: Sequence[Write]
    ) -> None:
        now = time.monotonic()
        self._held += sum(write.values[_SIZE] for write in writes if write.sql is _NOTE)
        if now - self._cleaned_at < _CLEAN_UP_EVERY_S and self._held <= self._max_bytes:
            return
        self._cleaned_at = now
        gone = connection.execute(_TOO_OLD, (self._now() - self._max_age_s,)).fetchall()
        (held,) = connection.execute("SELECT coalesce(sum(size), 0) FROM effects").fetchone()
        # Down to nine tenths, so that the next result does not make us do it again.
        while held > 0.9 * self._max_bytes and (oldest := connection.execute(_OLDEST).fetchall()):
            gone += oldest
            held -= sum(size for *_, size in oldest)
        self._held = held
        if gone:
            loop.call_soon_threadsafe(self._gone, [EffectName(tenant, effect_id) for tenant, effect_id, _ in gone])

    def _gone(self, names: Sequence[EffectName]) -> None:
        """In the event loop. What was noted anew since is known again."""
        self._known.difference_update(hash(name) for name in names if name not in self._unwritten)


def _row(name: EffectName, known: KnownEffect, now: float) -> tuple[Any, ...]:
    result = None if known.outcome is None else outcome_to_proto(known.outcome).SerializeToString()
    return (*name, known.fingerprint, now, _ROW_BYTES + len(result or b""), result)


def _outcome(result: bytes) -> ToolOutcome:
    return outcome_from_proto(pb.ExecuteToolResponse.FromString(result))
