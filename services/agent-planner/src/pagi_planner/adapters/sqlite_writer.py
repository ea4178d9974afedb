"""Writes the journal: what waits goes into one transaction, in the event loop where that is quick, else in a thread."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pagi_planner.adapters.sqlite_tables import INSERT
from pagi_planner.domain.errors import JournalError, RunTakenOverError

log = logging.getLogger(__name__)

Waiter = tuple[str, asyncio.Future[None]]
Statement = tuple[str, tuple[Any, ...]]
# A future, and its result or what is raised in its place.
Outcome = tuple[asyncio.Future[Any], Any]


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

# The event loop commits so much itself, in some tenths of a millisecond; with more it would be held up.
MOST_AT_ONCE = 32
MOST_CHARACTERS_AT_ONCE = 65_536
# Then the thread commits twice: the first time carries the write-ahead log over into the file when it has grown, and
# whoever commits next begins the log anew. Both wait for the disk.
COMMITS_AT_ONCE = 64


class SqliteWriter:
    """Writes rows in the order in which they come, with one commit for all that wait.

    To have a commit made by a thread takes as long again as the commit, so the event loop makes it while the thread has
    nothing to do. Whatever goes wrong there was not done, and is the thread's, which may wait.

    Args:
        connection: Used by the thread alone, and closed by it.
        on_commit: Called in the event loop with the id of the newest row after each commit that stored events.
        quick: For the event loop: a connection that waits for nobody and leaves the write-ahead log as it is. None:
            the thread does it all.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_commit: Callable[[int], None],
        *,
        quick: sqlite3.Connection | None = None,
    ) -> None:
        self._connection = connection
        self._on_commit = on_commit
        self._quick = quick
        self._commits_at_once = 0
        self._is_threads_turn = False
        # What the thread was given and has not told of yet.
        self._lent = 0
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
        if self._quick:
            self._quick.close()

    def _gather(self, entry: Entry) -> None:
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(entry)

    def _hand_over(self) -> None:
        entries, self._gathered = self._gathered, []
        if entries and not self._write_at_once(entries):
            self._lent += 1
            self._line.put(entries)

    def _write_at_once(self, entries: Sequence[Entry]) -> bool:
        """Commits in the event loop, where that holds nobody up. False: nothing was done, the thread has to."""
        if not self._quick or self._lent or self._is_threads_turn or len(entries) > MOST_AT_ONCE:
            return False
        rows = [entry for entry in entries if isinstance(entry, Row)]
        waiting = [entry for entry in entries if isinstance(entry, tuple)]
        if len(rows) + len(waiting) < len(entries) or sum(map(_characters, rows)) > MOST_CHARACTERS_AT_ONCE:
            return False
        if self._broken and not self._broken.keys().isdisjoint(
            [row.run_id for row in rows] + [id_ for id_, _ in waiting]
        ):
            return False
        try:
            last = _commit(self._quick, rows)
        except Exception as error:  # noqa: BLE001 - whose fault it is, the thread finds out, and tells
            log.debug("the journal's thread writes what could not be written at once: %s", error)
            return False
        if rows:
            self._commits_at_once += 1
            self._is_threads_turn = self._commits_at_once == COMMITS_AT_ONCE
        self._tell([(done, None) for _, done in waiting], last)
        return True

    def _write(self) -> None:
        """The writer thread: everything in line goes into one transaction."""
        is_open = True
        while is_open:
            rows: list[Row] = []
            waiting: list[Waiter] = []
            questions: list[Question] = []
            batches = self._in_line()
            for entry in chain.from_iterable(batches):
                if entry is None:
                    is_open = False
                elif isinstance(entry, Row):
                    rows.append(entry)
                elif isinstance(entry, Question):
                    questions.append(entry)
                else:
                    waiting.append(entry)
            last = self._store([row for row in rows if self._may_follow(row)])
            outcomes: list[Outcome] = [(done, _fault_of(self._broken.get(run_id))) for run_id, done in waiting]
            outcomes += [(question.answered, self._answer(question)) for question in questions]
            self._loop.call_soon_threadsafe(self._take_back, outcomes, last, len(batches), bool(rows))
        self._connection.close()

    def _in_line(self) -> list[list[Entry]]:
        """Waits for the first batch and gives all that stand behind it."""
        batches = [self._line.get()]
        while True:
            try:
                batches.append(self._line.get_nowait())
            except queue.Empty:
                return batches

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
            return _commit(self._connection, rows)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                # Somebody else holds the file, and not for a moment: trying run by run would wait as long for each.
                self._lose(rows, error)
                return 0
            return self._store_apart(rows)
        except Exception:  # noqa: BLE001 - this thread must live; each fault is told to its run
            return self._store_apart(rows)

    def _store_apart(self, rows: Sequence[Row]) -> int:
        """Gives each run a transaction of its own: one bad row must not cost the others theirs."""
        last = 0
        for run_id in dict.fromkeys(row.run_id for row in rows):
            own = [row for row in rows if row.run_id == run_id]
            try:
                last = max(last, _commit(self._connection, own))
            except Exception as error:  # noqa: BLE001 - see above
                self._lose(own, error)
        return last

    def _lose(self, rows: Sequence[Row], error: Exception) -> None:
        taken = isinstance(error, RunTakenOverError)
        # One that was not raised: what it is kept with would keep all that was in line then.
        text = error.message if isinstance(error, JournalError) else f"the journal cannot be written: {error}"
        fault = (type(error) if isinstance(error, JournalError) else JournalError)(text)
        log.log(logging.WARNING if taken else logging.ERROR, "%s (%d rows)", fault.message, len(rows))
        for row in rows:
            # A cursor that is not stored means a repeat, which readers bear.
            if row.run_id:
                self._broken.setdefault(row.run_id, Lost(row.seq, row.epoch, fault))

    def _answer(self, question: Question) -> list[Any] | Exception:
        try:
            with _transaction(self._connection):
                return [row for sql, values in question.statements for row in self._connection.execute(sql, values)]
        except Exception as error:  # noqa: BLE001 - this thread must live; who asked is told
            return JournalError(f"the journal cannot be written: {error}")

    def _take_back(self, outcomes: Sequence[Outcome], last: int, batches: int, has_committed: bool) -> None:
        """Goes on where the thread has done what it was given."""
        self._lent -= batches
        if has_committed:
            # The first of two commits may have carried the log over.
            self._is_threads_turn = self._commits_at_once > 0 or not self._is_threads_turn
            self._commits_at_once = 0
        self._tell(outcomes, last)

    def _tell(self, outcomes: Sequence[Outcome], last: int) -> None:
        """Wakes those who wait for what was just committed."""
        if last:
            self._on_commit(last)
        for future, outcome in outcomes:
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _commit(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Stores all of the rows or none, and returns the id of the newest event.

    Raises:
        RunTakenOverError: One of them belongs to a run that has another claim, or has ended.
        sqlite3.Error: The database refuses them.
    """
    last = 0
    if rows:
        with _transaction(connection):
            for row in rows:
                for sql, values in row.statements:
                    cursor = connection.execute(sql, values)
                    if sql is INSERT:
                        if not cursor.rowcount:
                            raise RunTakenOverError(f"{row.run_id} belongs to another claim now, or has ended")
                        last = cursor.lastrowid or 0
    return last


def _characters(row: Row) -> int:
    """About how much of the file a row takes."""
    return sum(len(value) for _, values in row.statements for value in values if isinstance(value, str))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _fault_of(lost: Lost | None) -> JournalError | None:
    """An error of its own for each who waits: one that is raised in two places has two tracebacks."""
    return type(lost.fault)(lost.fault.message) if lost else None
