"""Forgets what is not to be kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime

from pagi_chassis.errors import PagiError

from pagi_memory.domain.clock import utc_now
from pagi_memory.domain.ports import SessionStore
from pagi_memory.domain.session import Retention

log = logging.getLogger(__name__)

PAUSE_S = 3_600.0


class Forgetting:
    """A component that forgets at the start and then every hour.

    Args:
        store: The sessions of every tenant.
        retention: What is kept.
        pause_s: Seconds from one time to the next.
    """

    def __init__(
        self,
        store: SessionStore,
        retention: Retention,
        *,
        pause_s: float = PAUSE_S,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._retention = retention
        self._pause_s = pause_s
        self._now = now
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins in the background."""
        self._task = asyncio.create_task(self._run(), name="forgetting")

    async def stop(self) -> None:
        """Ends; what is under way is done or undone as a whole."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                if forgotten := await self._store.expire(self._retention, self._now()):
                    log.info("%d sessions have expired", forgotten)
            except PagiError as error:
                log.warning("sessions that have expired are still there: %s", error)
            except Exception:
                # Nobody waits for this task: said here or nowhere.
                log.exception("sessions that have expired are still there")
            await asyncio.sleep(self._pause_s)
