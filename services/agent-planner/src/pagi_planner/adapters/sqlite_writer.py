"""The one thread that writes the journal: everything that waits goes into one transaction."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pagi_planner.adapters.sqlite_tables import INSERT
from pagi_planner.domain.errors import JournalError, RunTakenOverError

log = logging.getLogger(__name__)

Waiter = tuple[str, asyncio.Future[None]]
Statement = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """Statements in line that belong together.

    Attributes:
        run_id: Empty where they belong to no run.
        seq: The event's place in its run.
        epoch: Of the claim under which it is written.
    """

    statements: tuple[Statement, ...]
    run_id: str = ""
    seq: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """Statements in line of which somebody wants the rows; they have a transaction of their own."""

    statements: Sequence[Statement]
    answered: asyncio.Future[list[Any]]


@dataclass(frozen=True, slots=True)
class Lost:
    """The first event that a run lost, and why. Only one that takes its place, or a later claim's, may follow."""

    seq: int
    epoch: int
    fault: JournalError


Entry = Row | Waiter | Question | None


class SqliteWriter:
    """Writes rows in the order in which they come, with one commit for all that wait.

    Args:
        connection: Used by the thread alone, and closed by it.
        on_commit: Called in the event loop with the id of the newest row after each commit that stored events.
    """

    def __init__(self, connection: sqlite3.Connection, on_commit: Callable[[int], None]) -> None:
        self._connection = connection
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        # What one turn of the event loop puts in line goes to the thread together: to wake it costs more than a row.
        self._gathered: list[Entry] = []
        self._line: queue.SimpleQueue[list[Entry]] = queue.SimpleQueue()
        # Runs that lost an event; they are ended, so there are few.
        self._broken: dict[str, Lost] = {}
        # A daemon: a process that ends without close() must end. What was synced is on the disk, and nobody was told
        # of the rest.
        self._thread = threading.Thread(target=self._write, name="journal-writer", daemon=True)
        self._thread.start()

    def put(self, row: Row) -> None:
        """Puts the row in line."""
        self._gather(row)

    async def sync(self, run_id: str) -> None:
        """Waits for the commit that holds everything put in line so far.

        Raises:
            JournalError: A row of this run was not written.
        """
        done = self._loop.create_future()
        self._gather((run_id, done))
        await done

    async def ask(self, statements: Sequence[Statement]) -> list[Any]:
        """Runs the statements behind everything that is in line, in one transaction, and gives their rows.

        Raises:
            JournalError: They failed.
        """
        answered = self._loop.create_future()
        self._gather(Question(statements, answered))
        rows: list[Any] = await answered
        return rows

    async def close(self) -> None:
        """Writes what is in line, then ends."""
        self._gather(None)
        self._hand_over()
        await asyncio.to_thread(self._thread.join)

    def _gather(self, entry: Entry) -> None:
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(entry)

    def _hand_over(self) -> None:
        if self._gathered:
            self._line.put(self._gathered)
            self._gathered = []

    def _write(self) -> None:
        """The writer thread: everything in line goes into one transaction."""
        is_open = True
        while is_open:
            rows: list[Row] = []
            waiting: list[Waiter] = []
            questions: list[Question] = []
            for entry in self._in_line():
                if entry is None:
                    is_open = False
                elif isinstance(entry, Row):
                    rows.append(entry)
                elif isinstance(entry, Question):
                    questions.append(entry)
                else:
                    waiting.append(entry)
            last = self._store([row for row in rows if self._may_follow(row)])
            outcomes = [(done, self._broken.get(run_id)) for run_id, done in waiting]
            self._loop.call_soon_threadsafe(self._tell, outcomes, last)
            for question in questions:
                self._answer(question)
        self._connection.close()

    def _in_line(self) -> Iterator[Entry]:
        """Waits for the first entry and gives all that stand behind it."""
        yield from self._line.get()
        while True:
            try:
                yield from self._line.get_nowait()
            except queue.Empty:
                return

    def _may_follow(self, row: Row) -> bool:
        """A run that lost an event gets none after it, unless somebody has looked and goes on where it broke off."""
        lost = self._broken.get(row.run_id)
        if lost and (lost.seq == row.seq or lost.epoch < row.epoch):
            del self._broken[row.run_id]
            return True
        return lost is None

    def _store(self, rows: Sequence[Row]) -> int:
        """Commits the rows and returns the id of the newest; a run that loses one gets none after it either."""
        if not rows:
            return 0
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # Somebody else holds the file, and not for a moment: trying row by row would wait as long for each.
            self._lose(rows, error)
            return 0
        try:
            return self._commit(rows)
        except Exception:  # noqa: BLE001 - this thread must live; each fault is told to its run
            return max(self._store_alone(run_id, rows) for run_id in dict.fromkeys(row.run_id for row in rows))

    def _store_alone(self, run_id: str, rows: Sequence[Row]) -> int:
        """Gives the rows of one run a transaction of their own: one bad row must not cost the others theirs."""
        own = [row for row in rows if row.run_id == run_id]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            return self._commit(own)
        except Exception as error:  # noqa: BLE001 - see above
            self._lose(own, error)
            return 0

    def _lose(self, rows: Sequence[Row], error: Exception) -> None:
        taken = isinstance(error, RunTakenOverError)
        fault = error if isinstance(error, JournalError) else JournalError(f"the journal cannot be written: {error}")
        log.log(logging.WARNING if taken else logging.ERROR, "%s (%d rows)", fault.message, len(rows))
        for row in rows:
            # A cursor that is not stored means a repeat, which readers bear.
            if row.run_id:
                self._broken.setdefault(row.run_id, Lost(row.seq, row.epoch, fault))

    def _commit(self, rows: Sequence[Row]) -> int:
        """Ends the transaction that was begun, with all of the rows or none."""
        last = 0
        try:
            for row in rows:
                for sql, values in row.statements:
                    cursor = self._connection.execute(sql, values)
                    if sql is INSERT:
                        if not cursor.rowcount:
                            raise RunTakenOverError(f"{row.run_id} belongs to another claim now, or has ended")
                        last = cursor.lastrowid or 0
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return last

    def _answer(self, question: Question) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            rows = [row for sql, values in question.statements for row in self._connection.execute(sql, values)]
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - this thread must live; who asked is told
            self._roll_back()
            fault = JournalError(f"the journal cannot be written: {error}")
            self._loop.call_soon_threadsafe(_settle, question.answered, fault)
        else:
            self._loop.call_soon_threadsafe(_settle, question.answered, rows)

    def _roll_back(self) -> None:
        # A full disk may have rolled back already.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _tell(self, outcomes: Sequence[tuple[asyncio.Future[None], Lost | None]], last: int) -> None:
        """Wakes those who wait for what was just committed."""
        if last:
            self._on_commit(last)
        for done, lost in outcomes:
            # An error of its own for each: one that is raised in two places has two tracebacks.
            _settle(done, type(lost.fault)(lost.fault.message) if lost else None)


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
