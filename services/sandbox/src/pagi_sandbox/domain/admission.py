"""How many calls run at once."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from pagi_sandbox.domain.errors import TooManyCallsError


class Admission:
    """Lets a number of calls run, a number wait in order, and refuses the rest at once."""

    def __init__(self, running: int, waiting: int) -> None:
        """Both are at least 1 and 0."""
        self._running = running
        self._waiting = waiting
        self._places = asyncio.Semaphore(running)
        self._queue = 0

    def place(self) -> AbstractAsyncContextManager[None]:
        """Holds a place while the block runs.

        Raises:
            TooManyCallsError: too many wait already.
        """
        return _Place(self)

    async def enter(self) -> None:
        """Waits for a place, where there is room to wait; see `place`."""
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._queue >= self._waiting:
            raise TooManyCallsError(self._running, self._queue)
        self._queue += 1
        try:
            await self._places.acquire()
        finally:
            self._queue -= 1

    def leave(self) -> None:
        """Gives the place back."""
        self._places.release()


class _Place(AbstractAsyncContextManager[None]):
    """Not a generator, which takes four times as long to enter and leave."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def __aenter__(self) -> None:
        await self._admission.enter()

    async def __aexit__(self, *_: object) -> None:
        self._admission.leave()
