"""Budgets of one gateway process: counted in memory, what was spent kept in SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from pagi_gateway.adapters.sqlite_file import SqliteFile, Write
from pagi_gateway.domain.budgets import Amounts
from pagi_gateway.domain.counting import Counter, set_aside, settle
from pagi_gateway.domain.errors import BudgetStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagi_gateway.domain.budgets import Claim, Shortage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
    counter TEXT PRIMARY KEY,
    ends_at REAL NOT NULL,
    usd_nano INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    requests INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS spending_by_end ON spending (ends_at);
"""
_LOAD = "SELECT counter, ends_at FROM spending WHERE ends_at > ?"
_FIND = "SELECT usd_nano, tokens, requests FROM spending WHERE counter = ?"
# What is added, not what there is: two processes at one file by mistake lose nothing that a restart would find.
_ADD = (
    "INSERT INTO spending (counter, ends_at, usd_nano, tokens, requests) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (counter) DO UPDATE SET usd_nano = usd_nano + excluded.usd_nano,"
    " tokens = tokens + excluded.tokens, requests = requests + excluded.requests"
)
_OVER = "DELETE FROM spending WHERE ends_at < ?"
# A call settles in the counters in which it began, maybe after their end.
_KEPT_S = 3600.0
_CLEAN_UP_EVERY_S = 600.0


class SqliteSpending:
    """A BudgetStore and a component, for one gateway: several need Redis.

    What is set aside lives in memory only: it dies with the calls that it was for. Counters that nobody used for
    long leave the memory, and are read again when they are wanted.

    Args:
        file: Where what was spent is kept.
        now: Seconds since 1970.
        most_counters: In memory.
    """

    def __init__(self, file: SqliteFile, *, now: Callable[[], float] = time.time, most_counters: int = 1024) -> None:
        self._file = file
        self._now = now
        self._most = most_counters
        # The one used last is the last.
        self._counters: OrderedDict[str, Counter] = OrderedDict()
        # The hashes of those on disk, by their end: a new one costs no read.
        self._on_disk: dict[float, set[int]] = {}
        # How many additions to a counter are in line to be written.
        self._unwritten: dict[str, int] = {}
        self._cleaned_at = time.monotonic()

    async def start(self) -> None:
        """Learns which counters there are.

        Raises:
            StartError: The file cannot be read.
        """
        for name, ends_at in self._file.prepare(_SCHEMA, _LOAD, (self._now() - _KEPT_S,)):
            self._on_disk.setdefault(ends_at, set()).add(hash(name))
        self._file.after_commit(self._clean_up)

    async def stop(self) -> None:
        """Nothing: the file writes what is in line."""

    async def reserve(
        self, call_id: str, claims: Sequence[Claim], asked: Amounts, *, now: float, lease_s: float
    ) -> Shortage | None:
        """Sets aside; see BudgetStore."""
        while missing := [claim for claim in claims if claim.counter not in self._counters]:
            await self._load(missing[0])
        # From here on nothing waits: it is one step.
        shortage = set_aside(self._counters, call_id, claims, asked, now=now, lease_s=lease_s)
        self._forget_unused()
        return shortage

    def settle(self, call_id: str, claims: Sequence[Claim], asked: Amounts, used: Amounts) -> None:
        """Counts what was used; see BudgetStore. Once in memory it counts; it is on disk a moment later."""
        # A counter that is not in memory was released, and is read again when it is wanted.
        settle(self._counters, call_id, [claim for claim in claims if claim.counter in self._counters], used)
        for claim in claims:
            name = claim.counter
            if name in self._counters:
                self._counters.move_to_end(name)
            self._known_on_disk(claim.ends_at).add(hash(name))
            self._unwritten[name] = self._unwritten.get(name, 0) + 1
            self._file.put(Write(_ADD, (name, claim.ends_at, *used), partial(self._written, name)))

    async def counted(self, claim: Claim) -> tuple[Amounts, Amounts]:
        """What was spent and is set aside; see BudgetStore."""
        if claim.counter not in self._counters:
            await self._load(claim)
        counter = self._counters[claim.counter]
        counter.release_dead(self._now())
        return counter.spent, counter.held

    async def _load(self, claim: Claim) -> None:
        spent = Amounts()
        if hash(claim.counter) in self._known_on_disk(claim.ends_at):
            if claim.counter in self._unwritten:
                await self._file.flushed()
            try:
                row = await self._file.read(_FIND, (claim.counter,))
            except sqlite3.Error as error:
                raise BudgetStoreError(f"what was spent cannot be read, so nothing is asked: {error}") from error
            spent = Amounts(*row) if row else spent
        # Another call may have been quicker.
        self._counters.setdefault(claim.counter, Counter(spent))

    def _known_on_disk(self, ends_at: float) -> set[int]:
        if ends_at not in self._on_disk:
            over = [end for end in self._on_disk if end < self._now() - _KEPT_S]
            for end in over:
                del self._on_disk[end]
            self._on_disk[ends_at] = set()
        return self._on_disk[ends_at]

    def _forget_unused(self) -> None:
        """Leaves out of the memory what is on disk whole, and holds nothing."""
        spare = len(self._counters) - self._most
        for _ in range(min(spare, 64)):
            name, counter = next(iter(self._counters.items()))
            if counter.leases or name in self._unwritten:
                self._counters.move_to_end(name)
            else:
                del self._counters[name]

    def _written(self, name: str) -> None:
        self._unwritten[name] -= 1
        if not self._unwritten[name]:
            del self._unwritten[name]

    def _clean_up(self, connection: sqlite3.Connection, _: Sequence[Write]) -> None:
        """In the writer's thread."""
        if time.monotonic() - self._cleaned_at > _CLEAN_UP_EVERY_S:
            self._cleaned_at = time.monotonic()
            connection.execute(_OVER, (self._now() - _KEPT_S,))
