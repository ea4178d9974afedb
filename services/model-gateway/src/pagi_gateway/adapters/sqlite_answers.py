"""Answers remembered in SQLite: the effect ledger, and the cache of equal requests."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pagi_gateway.adapters.sqlite_file import SqliteFile, Write
from pagi_gateway.domain.effects import EffectName, KnownAnswer
from pagi_gateway.domain.model import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

# `space` is what the answers are remembered for; `size` is what the row counts for, in bytes.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    space TEXT NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    kept_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    size INTEGER NOT NULL,
    plan BLOB NOT NULL,
    PRIMARY KEY (space, tenant, name)
);
CREATE INDEX IF NOT EXISTS answers_by_age ON answers (space, kept_at);
CREATE INDEX IF NOT EXISTS answers_by_end ON answers (space, expires_at);
"""
_LOAD = "SELECT tenant, name, size FROM answers WHERE space = ?"
_FIND = "SELECT fingerprint, plan FROM answers WHERE space = ? AND tenant = ? AND name = ? AND expires_at > ?"
_KEEP = (
    "INSERT INTO answers (space, tenant, name, fingerprint, kept_at, expires_at, size, plan)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (space, tenant, name) DO UPDATE SET"
    " fingerprint = excluded.fingerprint, kept_at = excluded.kept_at, expires_at = excluded.expires_at,"
    " size = excluded.size, plan = excluded.plan"
)
_EXPIRED = "DELETE FROM answers WHERE space = ? AND expires_at <= ? RETURNING tenant, name, size"
_OLDEST = (
    "DELETE FROM answers WHERE (space, tenant, name) IN"
    " (SELECT space, tenant, name FROM answers WHERE space = ? ORDER BY kept_at LIMIT 64)"
    " RETURNING tenant, name, size"
)
_COUNT = "SELECT count(*), coalesce(sum(size), 0) FROM answers WHERE space = ?"
# What a row costs besides its answer, on disk and in memory.
_ROW_BYTES = 512
_CLEAN_UP_EVERY_S = 60.0
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Plan).decode


class Bounds(NamedTuple):
    """How much is remembered: the oldest go first. With a lifetime of 0 nothing is."""

    lifetime_s: float
    most_answers: int
    most_bytes: int


class SqliteAnswers:
    """An AnswerLedger or an AnswerCache, and a component.

    Which answers are known is held in memory as a set of hashes, so that a new request costs no read. What cannot be
    read counts as not known: the model is then asked again.

    Args:
        file: Where they are.
        space: What the answers are remembered for; each has its own bounds.
        bounds: How much is remembered.
        now: Seconds of the wall clock, which a restart does not set back.
    """

    def __init__(self, file: SqliteFile, space: str, bounds: Bounds, *, now: Callable[[], float] = time.time) -> None:
        self._file = file
        self._bounds = bounds
        self._now = now
        self._space = space
        self._known: set[int] = set()
        # What is in line to be written, so that a repeat that comes sooner finds it.
        self._unwritten: dict[EffectName, KnownAnswer] = {}
        # What all rows count for, or a little more: a row that replaces another is counted again until a clean-up.
        self._rows = self._bytes = 0
        self._cleaned_at = 0.0
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Learns what is known.

        Raises:
            StartError: The file cannot be read.
        """
        self._loop = asyncio.get_running_loop()
        rows = self._file.prepare(_SCHEMA, _LOAD, (self._space,))
        self._known = {hash(EffectName(tenant, key)) for tenant, key, _ in rows}
        self._rows, self._bytes = len(rows), sum(size for *_, size in rows)
        self._file.after_commit(self._clean_up)

    async def stop(self) -> None:
        """Nothing: the file writes what is in line."""

    def bound(self, bounds: Bounds) -> None:
        """Sets other bounds; they are kept from the next clean-up on."""
        self._bounds = bounds

    async def find(self, name: EffectName) -> KnownAnswer | None:
        """What is known; see AnswerLedger."""
        if hash(name) not in self._known:
            return None
        if (unwritten := self._unwritten.get(name)) is not None:
            return unwritten
        try:
            row = await self._file.read(_FIND, (self._space, *name, self._now()))
            return KnownAnswer(row[0], _decode(row[1])) if row else None
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            log.error("a remembered answer cannot be read, so the model is asked again: %s", error)
            return None

    def keep(self, name: EffectName, fingerprint: str, plan: Plan, *, lifetime_s: float | None = None) -> None:
        """Keeps an answer, for less than the bounds say where `lifetime_s` is less; see AnswerLedger."""
        bounds = self._bounds
        if not bounds.lifetime_s:
            return
        try:
            encoded = _encode(plan)
        except (msgspec.MsgspecError, UnicodeError) as error:
            log.error("an answer is not remembered: %s", error)
            return
        size = _ROW_BYTES + len(encoded)
        if size > bounds.most_bytes:
            return
        self._known.add(hash(name))
        self._unwritten[name] = known = KnownAnswer(fingerprint, plan)
        now = self._now()
        expires_at = now + min(bounds.lifetime_s, bounds.lifetime_s if lifetime_s is None else lifetime_s)
        values = (self._space, *name, fingerprint, now, expires_at, size, encoded)
        self._file.put(Write(_KEEP, values, partial(self._written, name, known)))

    def _written(self, name: EffectName, known: KnownAnswer) -> None:
        # Unless something newer stands in line behind it.
        if self._unwritten.get(name) is known:
            del self._unwritten[name]

    # In the writer's thread.

    def _clean_up(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
        now, bounds = time.monotonic(), self._bounds
        sizes = [write.values[6] for write in writes if write.sql is _KEEP and write.values[0] == self._space]
        self._rows += len(sizes)
        self._bytes += sum(sizes)
        full = self._rows > bounds.most_answers or self._bytes > bounds.most_bytes
        if not full and now - self._cleaned_at < _CLEAN_UP_EVERY_S:
            return
        self._cleaned_at = now
        gone = connection.execute(_EXPIRED, (self._space, self._now())).fetchall()
        rows, held = connection.execute(_COUNT, (self._space,)).fetchone()
        # Down to nine tenths, so that the next answer does not make us do it again.
        while rows > 0.9 * bounds.most_answers or held > 0.9 * bounds.most_bytes:
            oldest = connection.execute(_OLDEST, (self._space,)).fetchall()
            if not oldest:
                break
            gone += oldest
            rows -= len(oldest)
            held -= sum(size for *_, size in oldest)
        self._rows, self._bytes = rows, held
        if gone and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._gone, [EffectName(tenant, key) for tenant, key, _ in gone])

    def _gone(self, names: Sequence[EffectName]) -> None:
        """In the event loop. What was kept anew since is known again."""
        self._known.difference_update(hash(name) for name in names if name not in self._unwritten)
