"""Time, as the system has it."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The real clock."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)

    async def wait(self, signal: asyncio.Future[None], seconds: float) -> None:
        """Waits for the signal, and no longer than that."""
        await asyncio.wait({signal}, timeout=seconds)
