"""The one task that writes the journal: everything that waits goes into one statement."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pagi_planner.adapters.postgres_connection import PostgresServer, passes
from pagi_planner.adapters.postgres_tables import ADVANCE, APPEND
from pagi_planner.adapters.run_rows import change_of, parent_of, prompt_head
from pagi_planner.domain.errors import JournalError, RunTakenOverError
from pagi_planner.domain.model import RunStatus
from pagi_planner.domain.state.events import Event

log = logging.getLogger(__name__)

# A server that is away for less than this holds the runs up and ends none (seconds).
PATIENCE_S = 5.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
# Of one statement.
_MOST_ROWS = 1_000
_MOST_BYTES = 4 * 1024 * 1024

Waiter = tuple[str, asyncio.Future[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One event in line; `data` is JSON."""

    event: Event
    epoch: int
    data: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The first event that a run lost, and why. Only one that takes its place, or a later claim's, may follow."""

    seq: int
    epoch: int
    fault: JournalError


class PostgresWriter:
    """Writes events in the order in which they come, with one statement for all that wait.

    Args:
        server: Where to.
        owner: Whose runs these are.
        on_commit: Called after each statement that stored events.
    """

    def __init__(self, server: PostgresServer, owner: str, on_commit: Callable[[], None]) -> None:
        self._server = server
        self._owner = owner
        self._on_commit = on_commit
        self._line: list[Row | Waiter] = []
        self._cursors: dict[str, int] = {}
        self._something = asyncio.Event()
        self._is_closing = False
        self._connection: Any = None
        # Runs that lost an event; they are ended, so there are few.
        self._broken: dict[str, Lost] = {}
        self._task = asyncio.create_task(self._write(), name="journal writer")

    def put(self, row: Row) -> None:
        """Puts the row in line."""
        self._line.append(row)
        self._something.set()

    def advance(self, reader: str, position: int) -> None:
        """Puts a cursor in line; of several the newest counts."""
        self._cursors[reader] = position
        self._something.set()

    async def sync(self, run_id: str) -> None:
        """Waits for the commit that holds everything put in line so far.

        Raises:
            RunTakenOverError: The run belongs to a later claim.
            JournalError: A row of this run was not written.
        """
        if self._task.done():
            raise JournalError("the journal is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((run_id, done))
        self._something.set()
        await done

    async def close(self) -> None:
        """Writes what is in line, then ends."""
        self._is_closing = True
        self._something.set()
        await self._task

    async def _write(self) -> None:
        try:
            while self._line or self._cursors or not self._is_closing:
                if not (self._line or self._cursors):
                    self._something.clear()
                    await self._something.wait()
                    continue
                rows, waiting = self._next()
                if rows := [row for row in rows if self._may_follow(row)]:
                    await self._store(rows)
                for run_id, done in waiting:
                    self._tell(run_id, done)
                await self._store_cursors()
        except Exception:
            # A fault of ours: nobody must wait for a commit that never comes.
            log.exception("the journal's writer has ended")
            raise
        finally:
            self._disconnect()
            for entry in self._line:
                if not isinstance(entry, Row) and not entry[1].done():
                    entry[1].set_exception(JournalError("the journal is closed"))

    def _next(self) -> tuple[list[Row], list[Waiter]]:
        """What goes into the next statement, and who is told after it."""
        rows: list[Row] = []
        waiting: list[Waiter] = []
        size = taken = 0
        for entry in self._line:
            if isinstance(entry, Row):
                if len(rows) == _MOST_ROWS or (rows and size + len(entry.data) > _MOST_BYTES):
                    break
                rows.append(entry)
                size += len(entry.data)
            else:
                waiting.append(entry)
            taken += 1
        del self._line[:taken]
        return rows, waiting

    def _may_follow(self, row: Row) -> bool:
        """A run that lost an event gets none after it, unless somebody has looked and goes on where it broke off."""
        event = row.event
        lost = self._broken.get(event.run_id)
        if lost and (lost.seq == event.seq or lost.epoch < row.epoch):
            del self._broken[event.run_id]
            return True
        return lost is None

    def _tell(self, run_id: str, done: asyncio.Future[None]) -> None:
        if done.done():
            return
        if lost := self._broken.get(run_id):
            # An error of its own for each: one that is raised in two places has two tracebacks.
            done.set_exception(type(lost.fault)(lost.fault.message))
        else:
            done.set_result(None)

    async def _store(self, rows: Sequence[Row]) -> None:
        try:
            await self._append_patiently(rows)
        except Exception as error:  # noqa: BLE001 - this task must live; each fault is told to its run
            if passes(error) or len({row.event.run_id for row in rows}) == 1:
                self._lose(rows, error)
                return
            # One bad row must not cost the others theirs.
            for run_id in dict.fromkeys(row.event.run_id for row in rows):
                await self._store([row for row in rows if row.event.run_id == run_id])

    async def _append_patiently(self, rows: Sequence[Row]) -> None:
        """Tries again, with growing pauses, while the server is away.

        A statement whose answer was lost may have been carried out: what stands there then under this claim is ours.
        """
        gives_up_at = time.monotonic() + PATIENCE_S
        pause, is_repeat = _FIRST_PAUSE_S, False
        while True:
            try:
                self._check(rows, await self._append(rows, is_repeat), is_repeat)
            except Exception as error:
                if isinstance(error, RunTakenOverError) or not passes(error):
                    raise
                self._disconnect()
                if time.monotonic() + pause > gives_up_at:
                    raise
                log.warning("the journal waits: %s", error or type(error).__name__)
            else:
                self._on_commit()
                return
            await asyncio.sleep(pause)
            pause, is_repeat = min(pause * 2, _LONGEST_PAUSE_S), True

    async def _append(self, rows: Sequence[Row], is_repeat: bool) -> Sequence[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._server.connect()
        events = [row.event for row in rows]
        changes = [change_of(event) for event in events]
        stored: Sequence[Any] = await self._connection.fetch(
            APPEND,
            [event.trace_id for event in events],
            [event.session_id for event in events],
            [event.timestamp for event in events],
            [event.type.value for event in events],
            [row.data for row in rows],
            [event.run_id for event in events],
            [event.seq for event in events],
            [row.epoch for row in rows],
            [change.waiting for change in changes],
            [change.end for change in changes],
            *_begun(events),
            self._owner,
            is_repeat,
        )
        return stored

    def _check(self, rows: Sequence[Row], stored: Sequence[Any], is_repeat: bool) -> None:
        """Notes which runs have lost rows: to another planner, or to rows of the same place."""
        kept = {run_id: (epoch, count) for run_id, epoch, count in stored}
        wanted = Counter((row.event.run_id, row.epoch) for row in rows)
        for (run_id, epoch), count in wanted.items():
            now, inserted = kept.get(run_id, (0, 0))
            own = [row for row in rows if row.event.run_id == run_id]
            if now != epoch:
                self._lose(own, RunTakenOverError(f"{run_id} belongs to another claim now, or has ended"))
            elif inserted < count and not is_repeat:
                self._lose(own, JournalError(f"the journal cannot be written: {run_id} has other events there"))

    def _lose(self, rows: Sequence[Row], error: Exception) -> None:
        taken = isinstance(error, RunTakenOverError)
        # One that was not raised: what it is kept with would keep all that was in line then.
        text = error.message if isinstance(error, JournalError) else f"the journal cannot be written: {error}"
        fault = (type(error) if isinstance(error, JournalError) else JournalError)(text)
        log.log(logging.WARNING if taken else logging.ERROR, "%s (%d rows)", fault.message, len(rows))
        for row in rows:
            self._broken.setdefault(row.event.run_id, Lost(row.event.seq, row.epoch, fault))

    async def _store_cursors(self) -> None:
        """Losing one means a repeat, which readers bear."""
        cursors, self._cursors = self._cursors, {}
        for reader, position in cursors.items():
            try:
                await self._server.fetch(ADVANCE, reader, position, self._owner)
            except JournalError as error:
                log.warning("the cursor of %s is not stored: %s", reader, error.message)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection and not connection.is_closed():
            connection.terminate()


def _begun(events: Sequence[Event]) -> tuple[list[Any], ...]:
    """The rows of the runs that begin with these events, by column: as they are after all of the events.

    In the order of their names: two planners that begin the same ones then wait for each other in one direction only.
    """
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [], [])
    for first in sorted((event for event in events if event.seq == 1), key=lambda event: event.run_id):
        waiting, end, ended_at = _after_all(events, first.run_id)
        status = end or (RunStatus.WAITING_APPROVAL if waiting else RunStatus.RUNNING)
        row = (
            first.run_id,
            first.session_id,
            first.trace_id,
            parent_of(first),
            prompt_head(first),
            str(status),
            0 if end else waiting,
            first.timestamp,
            ended_at,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def _after_all(events: Sequence[Event], run_id: str) -> tuple[int, str, datetime | None]:
    waiting, end, ended_at = 0, "", None
    for event in events:
        if event.run_id == run_id:
            change = change_of(event)
            waiting += change.waiting
            if change.end:
                end, ended_at = change.end, event.timestamp
    return waiting, end, ended_at
