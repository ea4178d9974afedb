"""The end of the journal in PostgreSQL, seen in an order that never changes behind a reader's back.

Ids are given before the commit, so that of two planners the later id may be seen first. A reader who went by the newest
id would miss the other for ever. Here a gap holds the end back until what is missing is there, or cannot come any more:
every transaction that was under way when the gap was seen is over
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT).
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any, NamedTuple

from pagi_planner.adapters.postgres_connection import STATEMENT_TIMEOUT_S, PostgresServer
from pagi_planner.adapters.postgres_tables import HOLD, LOOK, TOP
from pagi_planner.domain.errors import JournalError

log = logging.getLogger(__name__)

JOURNAL_CHANNEL, ORDERS_CHANNEL = "pagi_journal", "pagi_orders"
# Where no word comes, the journal is looked at as often (seconds).
POLL_S = 1.0
# A gap is looked at again after this.
_GAP_S = 0.005
# Others are told of new events at most this often.
_TELL_S = 0.02


class _Gap(NamedTuple):
    """Ids up to `top` are missing; what could bring them is older than transaction `horizon`."""

    top: int
    horizon: int
    seen_at: float

    def is_settled(self, running_from: int) -> bool:
        """Whether nothing can fill it any more, by the oldest transaction that is under way."""
        return running_from >= self.horizon or time.monotonic() - self.seen_at > 1.5 * STATEMENT_TIMEOUT_S


class PostgresTail:
    """Follows the journal, tells other planners of new events, and hears from them.

    Args:
        server: Where the journal is.
        owner: This planner, whose name the connection holds: who can take it, too, knows that the process is gone.
    """

    def __init__(self, server: PostgresServer, owner: str) -> None:
        self._server = server
        self._owner = owner
        self._last = 0
        self._has_name = False
        self._gap: _Gap | None = None
        self._looking = asyncio.Event()
        self._has_news = False
        self._told_at = 0.0
        self._waiting: set[asyncio.Future[None]] = set()
        self._ordered = asyncio.Event()
        self._connection: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins at the end of the journal.

        Raises:
            JournalError: The server cannot be reached.
        """
        await self._listen()
        await self._hold_name()
        [(self._last, horizon)] = await self._server.fetch(TOP)
        gap = _Gap(self._last, horizon, time.monotonic())
        while True:
            [look] = await self._server.fetch(LOOK, self._last)
            if gap.is_settled(look["running_from"]):
                break
            await asyncio.sleep(_GAP_S)
        self._tasks = [asyncio.create_task(self._follow(), name="journal tail")]

    async def stop(self) -> None:
        """Ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection and not self._connection.is_closed():
            self._connection.terminate()

    @property
    def last(self) -> int:
        """Everything up to this id is there to be read."""
        return self._last

    def wrote(self) -> None:
        """This planner has committed events."""
        self._has_news = True
        self._looking.set()

    async def wait(self, position: int) -> None:
        """Returns when something stands behind the position."""
        while self._last <= position:
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(changed)
            try:
                await changed
            finally:
                self._waiting.discard(changed)

    async def wait_for_orders(self, timeout_s: float) -> None:
        """Returns when somebody has left an order, and after the time at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ordered.wait()
        self._ordered.clear()

    async def _follow(self) -> None:
        is_away = False
        while True:
            await self._pause()
            self._looking.clear()
            try:
                if self._connection is None or self._connection.is_closed():
                    await self._listen()
                if not self._has_name:
                    await self._hold_name()
                await self._look()
                await self._tell()
                is_away = False
            except JournalError as error:
                if not is_away:
                    log.warning("the journal is not followed: %s", error.message)
                is_away = True
                await asyncio.sleep(POLL_S)
            except Exception:
                # Of ours: who reads the journal would hear of nothing any more.
                log.exception("the journal is not followed")
                await asyncio.sleep(POLL_S)

    async def _pause(self) -> None:
        if self._gap:
            await asyncio.sleep(_GAP_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._looking.wait()

    async def _listen(self) -> None:
        self._connection = connection = await self._server.connect()
        try:
            await connection.add_listener(JOURNAL_CHANNEL, lambda *_: self._looking.set())
            await connection.add_listener(ORDERS_CHANNEL, lambda *_: self._ordered.set())
        except Exception as error:
            connection.terminate()
            self._connection = None
            raise self._server.away(error) from error
        self._has_name = False
        # What was said while nobody listened.
        self._ordered.set()

    async def _hold_name(self) -> None:
        """Takes this planner's name; the server may not have noticed yet that an earlier connection is gone."""
        assert self._connection
        try:
            self._has_name = await self._connection.fetchval(HOLD, self._owner)
        except Exception as error:
            raise self._server.away(error) from error

    async def _look(self) -> None:
        """Moves the end to where every id below it is settled."""
        [(top, count, running_from, next_transaction)] = await self._server.fetch(LOOK, self._last)
        if (gap := self._gap) and gap.is_settled(running_from):
            # What could come has come before this look.
            self._gap = None
            self._move(gap.top)
            self._looking.set()
        elif top is not None and top - self._last == count:
            self._gap = None
            self._move(top)
        elif top is not None and not self._gap:
            self._gap = _Gap(top, next_transaction, time.monotonic())

    def _move(self, last: int) -> None:
        if last <= self._last:
            return
        self._last = last
        for changed in self._waiting:
            if not changed.done():
                changed.set_result(None)

    async def _tell(self) -> None:
        """Tells other planners that the journal has grown.

        Not within the statement that writes: commits that notify wait for each other over the whole server.
        """
        if self._has_news and (left_s := self._told_at + _TELL_S - time.monotonic()) <= 0:
            self._has_news = False
            self._told_at = time.monotonic()
            await self._server.fetch(f"NOTIFY {JOURNAL_CHANNEL}")
        elif self._has_news:
            asyncio.get_running_loop().call_later(left_s, self._looking.set)
