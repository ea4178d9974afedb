"""The journal in PostgreSQL, for any number of planners: the same tables, and one statement for all that waits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

import msgspec

from pagi_planner.adapters import postgres_tables as sql
from pagi_planner.adapters.postgres_connection import PostgresServer
from pagi_planner.adapters.postgres_reader import PostgresReader, can_be_there, event_of
from pagi_planner.adapters.postgres_tail import PostgresTail
from pagi_planner.adapters.postgres_writer import PostgresWriter, Row
from pagi_planner.adapters.run_rows import is_at, owner_name, place_of
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.model import RunStatus, RunSummary
from pagi_planner.domain.ownership import FIRST_EPOCH, Claim, Heartbeats, Order, OrderKind
from pagi_planner.domain.state.events import Event, EventType

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
# Whose turn it is to read for a relay is asked this often by those whose turn it is not (seconds).
_TURN_S = 1.0


class PostgresJournal:
    """Journal, run store and tail in one database that planners share.

    Args:
        url: `postgresql://user:password@host:port/database`.
        lapse_s: A planner that shows no sign of life for so long is dead, and its runs are taken over.
        port: On which one planner of this machine can serve: of its predecessor there it can be sure sooner. 0: none.
    """

    def __init__(self, url: str, *, lapse_s: float = 4.0, port: int = 0) -> None:
        self._server = PostgresServer(url)
        self._reader = PostgresReader(self._server)
        self._place = place_of(port)
        self._owner = owner_name(self._place)
        self._heartbeats = Heartbeats(lapse_s)
        # Of the dead, by the newest look: the count at which each stopped.
        self._dead: dict[str, int | None] = {}
        # Predecessors at this place whose sessions had ended when this process began, with their counts.
        self._gone: dict[str, int | None] = {}
        self._tail: PostgresTail | None = None
        self._writer: PostgresWriter | None = None
        self._turns: set[str] = set()
        self._lapse_s = lapse_s
        self._renewed_at = time.monotonic()

    async def start(self) -> None:
        """Connects, with the tables.

        Raises:
            StartError: asyncpg is not installed.
            JournalError: The server cannot be reached or refuses.
        """
        await self._server.start()
        await self._server.make(sql.SCHEMA, sql.SCHEMA_LOCK)
        tail = PostgresTail(self._server, self._owner)
        await tail.start()
        self._tail = tail
        self._writer = PostgresWriter(self._server, self._owner, tail.wrote)
        self._gone = await self._predecessors()
        await self.renew()
        await self._server.fetch(sql.BURY, self._owner)

    async def stop(self) -> None:
        """Writes what is in line, says that this planner leaves, and disconnects."""
        if self._writer:
            writer, self._writer = self._writer, None
            await writer.close()
            # Others need not wait to be sure.
            with suppress(JournalError):
                await self._server.fetch(sql.LEAVE_READERS, self._owner)
                await self._server.fetch(sql.RESIGN, self._owner)
        if self._tail:
            tail, self._tail = self._tail, None
            await tail.stop()
        await self._server.stop()

    async def check(self) -> None:
        """Raises JournalError where the server does not answer."""
        await self._server.fetch("SELECT 1")

    def append(self, event: Event, epoch: int = FIRST_EPOCH) -> None:
        """Puts the event in line."""
        self._writing().put(Row(event, epoch, _encode(event.data).decode()))

    def advance(self, reader: str, position: int) -> None:
        """Puts the cursor in line; that of a reader whose turn is over is not stored."""
        self._writing().advance(reader, position)

    async def sync(self, run_id: str) -> None:
        """Waits for the commit that holds everything appended so far.

        Raises:
            RunTakenOverError: The run belongs to a later claim.
            JournalError: An event of this run was not written.
        """
        await self._writing().sync(run_id)

    async def events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The events of a run in order."""
        return await self._reader.events(run_id, after=after, limit=limit)

    async def runs(
        self, *, limit: int, before: str = "", session_id: str = "", status: RunStatus | None = None
    ) -> Sequence[RunSummary]:
        """The newest runs, newest first."""
        return await self._reader.runs(limit=limit, before=before, session_id=session_id, status=status)

    async def unfinished(self) -> Sequence[str]:
        """The ids of runs without a final event."""
        return [row[0] for row in await self._server.fetch(sql.UNFINISHED)]

    @property
    def owner(self) -> str:
        """This planner's name."""
        return self._owner

    async def claim(self, run_ids: Sequence[str]) -> Sequence[Claim]:
        """Takes over those of the runs that nobody alive works on elsewhere."""
        there = [run_id for run_id in run_ids if can_be_there(run_id)]
        rows = await self._server.fetch(sql.CLAIM, self._owner, *self._told_dead(), there)
        return [Claim(*row) for row in rows]

    async def release(self, run_id: str, epoch: int) -> None:
        """Lets go of a run that waits for a person."""
        await self._server.fetch(sql.RELEASE, run_id, self._owner, epoch)

    async def lapsed(self) -> Sequence[str]:
        """Unfinished runs of the dead and of this planner."""
        return [row[0] for row in await self._server.fetch(sql.LAPSED, [self._owner, *self._dead])]

    async def renew(self) -> None:
        """Counts this planner's beat up, and looks at those of the others."""
        beats = dict(await self._server.fetch(sql.BEAT, self._owner))
        dead = self._heartbeats.look(beats)
        dead |= {owner: beat for owner, beat in self._gone.items() if owner in beats and beats[owner] == beat}
        for owner in dead.keys() - self._dead.keys():
            log.warning("the planner %s shows no sign of life; its runs are taken over", owner)
        self._dead = dead
        if self._turns:
            self._turns &= {row[0] for row in await self._server.fetch(sql.TURNS, self._owner)}
        self._renewed_at = time.monotonic()

    async def hand_on(self, order: Order) -> None:
        """Leaves word in the table of orders, and says that there is some."""
        call_id = order.data.get("call_id", "")
        await self._server.fetch(sql.ORDER, order.run_id, order.kind, call_id, _encode(order.data).decode())

    async def orders(self) -> Sequence[Order]:
        """Takes the word left for this planner's runs; what came too late is thrown away."""
        rows = await self._server.fetch(sql.TAKE_ORDERS, self._owner)
        return [
            Order(run_id, OrderKind(kind), _decode(data)) for run_id, kind, data, is_unfinished in rows if is_unfinished
        ]

    async def wait_for_orders(self, timeout_s: float) -> None:
        """Returns when somebody has left word, and after the time at the latest."""
        await self._following().wait_for_orders(timeout_s)

    @property
    def last_position(self) -> int:
        """Everything up to this position is there to be read."""
        return self._following().last

    async def wait(self, position: int) -> None:
        """Returns when something stands behind the position."""
        await self._following().wait(position)

    async def after(self, position: int, types: Collection[EventType], limit: int) -> Sequence[tuple[int, Event]]:
        """The next events of these types."""
        kinds = [kind.value for kind in types]
        rows = await self._server.fetch(sql.AFTER, position, self.last_position, kinds, limit)
        return [(row[0], event_of(row)) for row in rows]

    async def cursor(self, reader: str) -> int:
        """How far a reader has come."""
        rows = await self._server.fetch(sql.CURSOR, reader)
        return int(rows[0][0]) if rows else 0

    async def turn(self, reader: str) -> None:
        """Returns when this planner reads for the reader: whoever did before is dead or has left."""
        self._turns.discard(reader)
        while True:
            with suppress(JournalError):
                if await self._server.fetch(sql.TURN, self._owner, *self._told_dead(), reader):
                    self._turns.add(reader)
                    return
            await asyncio.sleep(_TURN_S)

    def has_turn(self, reader: str) -> bool:
        """Whether it still does; not where this process was away for so long that another may have begun."""
        return reader in self._turns and time.monotonic() - self._renewed_at < self._lapse_s

    async def _predecessors(self) -> dict[str, int | None]:
        """Those at this place whose processes are gone: their sessions have ended, and they left without a word.

        One that hangs, or whose machine is away, has its session still, and is waited for as any other. One that
        lives and has lost its connection is told by its next beat, and loses nothing but runs that were claimed before.
        """
        others = dict(await self._server.fetch(sql.BEAT, self._owner))
        here = [owner for owner in others if is_at(self._place, owner)]
        return {owner: others[owner] for (owner,) in await self._server.fetch(sql.GONE, here)} if here else {}

    def _told_dead(self) -> tuple[list[str], list[int | None]]:
        return list(self._dead), list(self._dead.values())

    def _writing(self) -> PostgresWriter:
        if self._writer is None:
            raise JournalError("the journal is closed")
        return self._writer

    def _following(self) -> PostgresTail:
        if self._tail is None:
            raise JournalError("the journal is closed")
        return self._tail
