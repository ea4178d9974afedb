"""Time, tasks and commits that go on only when they are told to: what makes a run repeatable to the last step."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.adapters.sqlite_tables import CLAIM
from pagi_planner.adapters.sqlite_writer import Entry, SqliteWriter
from pagi_planner.domain.ownership import Claim, Order

MOST_ROUNDS = 200


@dataclass
class Time:
    """Seconds since the beginning, for all loops."""

    now: float = 0.0


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop that does what is ready when it is told to, and never waits: its time is told to it."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._time.now

    @property
    def is_ready(self) -> bool:
        """Whether a tick would do anything."""
        return bool(self._ready) or (self.next_timer is not None and self.next_timer <= self._time.now)

    @property
    def next_timer(self) -> float | None:
        """When something is to happen by itself."""
        return min((timer.when() for timer in self._scheduled if not timer.cancelled()), default=None)

    def tick(self) -> None:
        """Runs everything that is ready now, once."""
        self.call_soon(self.stop)
        self.run_forever()

    def settle(self) -> None:
        """Runs until nothing is ready."""
        for _ in range(MOST_ROUNDS):
            if not self.is_ready:
                break
            self.tick()

    def end(self) -> None:
        """Cancels every task, and those which that begins, and closes."""
        # A task that was never begun would leave behind what it was to await.
        self.settle()
        for _ in range(MOST_ROUNDS):
            if not (tasks := asyncio.all_tasks(self)):
                break
            for task in tasks:
                task.cancel()
            self.settle()
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()


class InOrder(dict[Any, None]):
    """A set that gives what it holds in the order in which it came: that of a set differs from process to process."""

    def add(self, each: Any) -> None:
        """Puts it in."""
        self[each] = None

    def discard(self, each: Any) -> None:
        """Takes it out."""
        self.pop(each, None)


class AtOnce(Executor):
    """Does what it is given in the thread that gives it."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Calls the function."""
        done: Future[Any] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as executors do
            done.set_exception(error)
        return done


class SteppedWriter(SqliteWriter):
    """The journal's writer, whose thread commits when it is told to, and as much of its line as it is told."""

    def __init__(self, connection: Any, on_commit: Callable[[int], None], *, quick: Any) -> None:
        self._may_go_on = threading.Semaphore(0)
        self._is_idle = threading.Event()
        self._most = 0
        super().__init__(connection, on_commit, quick=quick)

    @property
    def waiting(self) -> int:
        """How many batches stand in the thread's line."""
        return self._line.qsize()

    def commit(self, most: int) -> None:
        """Lets the thread take at most so many batches of its line, which is not empty, and commit them."""
        assert self._thread.is_alive(), "the journal's writer must live, whatever happens"
        self._is_idle.wait()
        self._is_idle.clear()
        self._most = most
        self._may_go_on.release()
        self._is_idle.wait()

    def kill(self) -> None:
        """The thread ends with what is in line uncommitted."""
        self._is_idle.wait()
        self._most = 0
        self._may_go_on.release()
        self._thread.join()
        if self._quick:
            self._quick.close()

    def _in_line(self) -> list[list[Entry]]:
        self._is_idle.set()
        self._may_go_on.acquire()
        return [self._line.get_nowait() for _ in range(min(self._most, self._line.qsize()))] or [[None]]


class Witness(Protocol):
    """Sees what planners do to the journal that they share, and says which of them live."""

    def wrote(self, owner: str, connection: sqlite3.Connection, row_id: int) -> None:
        """A row was put in, and is not committed yet; called in the writer's thread."""

    def committed(self, owner: str, *, is_kept: bool) -> None:
        """What was put in is durable now, or rolled back; called in the writer's thread."""

    def grew(self, last: int) -> None:
        """Rows were committed, up to this one."""

    def is_lapsed(self, owner: str) -> bool:
        """Whether the planner of this name is dead, as far as others can tell."""

    def leads(self, owner: str) -> bool:
        """Whether it is this planner's turn to hand things on."""

    orders: list[Order]


class WitnessedConnection:
    """A connection to the database; its disk may be full, for everything or from the commit on."""

    def __init__(self, connection: sqlite3.Connection, journal: SharedJournal) -> None:
        self._connection = connection
        self._journal = journal

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Executes, and tells the witness of what is written."""
        journal, witness = self._journal, self._journal.witness
        if journal.full and sql.lstrip().startswith(journal.full):
            journal.write_failed()
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise full
        cursor = self._connection.execute(sql, values)
        if "INSERT INTO audit_log" in sql and cursor.rowcount > 0:
            witness.wrote(journal.owner, self._connection, cursor.lastrowid or 0)
        elif sql in ("COMMIT", "ROLLBACK"):
            witness.committed(journal.owner, is_kept=sql == "COMMIT")
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


# Of two planners that want a run one gets it.
CLAIM_FROM = CLAIM.replace("RETURNING", "AND owner = ? RETURNING")
FULL_AT_ONCE = ("INSERT", "UPDATE", "\nINSERT", "\nUPDATE")
FULL_AT_COMMIT = ("COMMIT",)


class SharedJournal(SqliteJournal):
    """The journal of one of several planners with one file. The fence is SQLite's own; who is dead the witness says.

    What PostgreSQL gives planners beside the tables (signs of life, orders, one reader at a time) stands here in the
    witness: the machine decides who is dead, and no clock.
    """

    def __init__(self, path: Path, owner: str, witness: Witness, *, is_quick: bool) -> None:
        super().__init__(path)
        self._is_quick = is_quick
        self._reader.shutdown()
        self._reader = AtOnce()  # type: ignore[assignment]
        self._waiting = InOrder()  # type: ignore[assignment]
        self._owner = owner
        self.witness = witness
        # How the statements begin that fail for want of room.
        self.full: tuple[str, ...] = ()
        # After so many of them there is room again; 0: when somebody makes some.
        self.full_for = 0
        self._is_passing = False

    async def start(self) -> None:
        """Opens the file, and steps its writer from then on."""
        await super().start()
        assert self._writer
        self._writer._line.put([None])
        self._writer._thread.join()
        if self._writer._quick:
            self._writer._quick.close()
        quick = self._connect_quickly() if self._is_quick else None
        self._writer = SteppedWriter(self._connect(), self._wake, quick=quick)

    @property
    def writer(self) -> SteppedWriter:
        """What is to be stepped."""
        assert isinstance(self._writer, SteppedWriter)
        return self._writer

    def write_failed(self) -> None:
        """There was no room for it."""
        self.full_for = max(0, self.full_for - 1)
        if self.full_for == 0 and self._is_passing:
            self.full = ()

    def fill(self, how: tuple[str, ...], times: int) -> None:
        """From now on there is no room: for so many statements, or (0) until somebody makes some."""
        self.full, self.full_for, self._is_passing = how, times, times > 0

    def kill(self) -> None:
        """Leaves the file as it is, as the death of the process does."""
        self.writer.kill()
        self._writer = None
        if self._reading:
            self._reading.close()
            self._reading = None

    async def claim(self, run_ids: Sequence[str]) -> Sequence[Claim]:
        """Takes over those of the runs that no living planner has."""
        free = [(run_id, self.owner_of(run_id)) for run_id in run_ids if self._is_free(run_id)]
        rows = await self.writer.ask([(CLAIM_FROM, (self._owner, run_id, owner)) for run_id, owner in free])
        return [Claim(*row) for row in rows]

    async def lapsed(self) -> Sequence[str]:
        """Unfinished runs of dead planners, and those of this one."""
        return [run_id for run_id in await super().lapsed() if self._is_free(run_id)]

    async def hand_on(self, order: Order) -> None:
        """Leaves word with the witness."""
        if order not in self.witness.orders:
            self.witness.orders.append(order)

    async def orders(self) -> Sequence[Order]:
        """Takes what was left for this planner's runs."""
        mine = [order for order in self.witness.orders if self.owner_of(order.run_id) == self._owner]
        for order in mine:
            self.witness.orders.remove(order)
        return mine

    async def turn(self, reader: str) -> None:
        """Waits until it is this planner's turn."""
        while not self.has_turn(reader):
            await asyncio.sleep(1.0)

    def has_turn(self, reader: str) -> bool:
        """Whether it is."""
        return self.witness.leads(self._owner)

    def heard(self, last: int) -> None:
        """Another planner has written."""
        super()._wake(last)

    def _wake(self, last: int) -> None:
        super()._wake(last)
        self.witness.grew(last)

    def _own(self) -> None:
        """The file is shared."""

    def _connect(self, *, wait_s: float = 5.0) -> sqlite3.Connection:
        connection: Any = WitnessedConnection(super()._connect(wait_s=wait_s), self)
        return connection  # type: ignore[no-any-return]

    def owner_of(self, run_id: str) -> str:
        """Whose the run is, by its row; empty: nobody's."""
        if self._reading is None:
            return ""
        row = self._reading.execute("SELECT owner FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return row[0] if row else ""

    def _is_free(self, run_id: str) -> bool:
        owner = self.owner_of(run_id)
        return owner in ("", self._owner) or self.witness.is_lapsed(owner)
