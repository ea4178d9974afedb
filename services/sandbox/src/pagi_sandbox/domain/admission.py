"""How many calls run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pagi_sandbox.domain.errors import TooManyCallsError


class Admission:
    """Lets a number of calls run, a number wait in order, and refuses the rest at once."""

    def __init__(self, running: int, waiting: int) -> None:
        """Both are at least 1 and 0."""
        self._running = running
        self._waiting = waiting
        self._places = asyncio.Semaphore(running)
        self._queue = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds a place while the block runs.

        Raises:
            TooManyCallsError: too many wait already.
        """
        if self._places.locked():
            if self._queue >= self._waiting:
                raise TooManyCallsError(self._running, self._queue)
            self._queue += 1
            try:
                await self._places.acquire()
            finally:
                self._queue -= 1
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()
