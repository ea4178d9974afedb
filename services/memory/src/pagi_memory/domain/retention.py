"""Forgets what is not to be kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from pagi_chassis.errors import PagiError

from pagi_memory.domain.clock import utc_now
from pagi_memory.domain.ports import PlaybookStore, SessionStore
from pagi_memory.domain.session import Retention

log = logging.getLogger(__name__)

PAUSE_S = 3_600.0
# A planner repeats what it could not tell within days; as many take about 150 MB.
RUNS_KEPT = timedelta(days=90)
MOST_RUNS = 1_000_000


class Forgetting:
    """A component that forgets at the start and then every hour.

    Args:
        store: The sessions of every tenant.
        retention: What is kept.
        playbooks: Of every tenant, counted runs of which are known until nobody repeats them any more.
        pause_s: Seconds from one time to the next.
    """

    def __init__(
        self,
        store: SessionStore,
        retention: Retention,
        playbooks: PlaybookStore | None = None,
        *,
        pause_s: float = PAUSE_S,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._retention = retention
        self._playbooks = playbooks
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
            await _tried(self._expire, "sessions that have expired are still there")
            await _tried(self._forget_runs, "counted runs that are too old or too many are still known")
            await asyncio.sleep(self._pause_s)

    async def _expire(self) -> None:
        if forgotten := await self._store.expire(self._retention, self._now()):
            log.info("%d sessions have expired", forgotten)

    async def _forget_runs(self) -> None:
        forgotten = 1
        while forgotten and self._playbooks:
            # Some at once: others write in between.
            forgotten = await self._playbooks.forget_runs(before=self._now() - RUNS_KEPT, most=MOST_RUNS)


async def _tried(forget: Callable[[], Awaitable[None]], otherwise: str) -> None:
    try:
        await forget()
    except PagiError as error:
        log.warning("%s: %s", otherwise, error)
    except Exception:
        # Nobody waits for this task: said here or nowhere.
        log.exception("%s", otherwise)
