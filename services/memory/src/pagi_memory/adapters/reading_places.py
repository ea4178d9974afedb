"""Keeps a reader of a database free for runs, however many look around or search what is long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

R = TypeVar("R")


class ReadingPlaces:
    """Lets some read at once; the others wait in order.

    Args:
        places: So many; fewer than the database has readers.
    """

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)

    async def read(self, work: Callable[[], Awaitable[R]]) -> R:
        """Does the work in a place. Who asked may go; the place is free when the work has ended.

        A thread that reads cannot be stopped.
        """
        await self._places.acquire()
        reading = asyncio.ensure_future(work())
        reading.add_done_callback(self._ended)
        return await asyncio.shield(reading)

    def _ended(self, reading: asyncio.Future[Any]) -> None:
        self._places.release()
        if not reading.cancelled():
            # Looked at, so that a failure is not told of again where nobody waited to the end.
            reading.exception()
