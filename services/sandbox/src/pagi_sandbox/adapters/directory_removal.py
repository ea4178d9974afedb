"""Deletes workspaces that nothing uses any more, in the background."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.adapters.openat2_files import DIRECTORY
from pagi_sandbox.domain.deletion import delete

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 3600.0


class DirectoryRemoval:
    """A component: looks for old workspaces at its start and from time to time."""

    def __init__(
        self,
        workspaces: DirectoryWorkspaces,
        *,
        max_age_s: float,
        removed: Callable[[Path], None] = lambda _: None,
        is_used: Callable[[Path], bool] = lambda _: False,
        forget: Callable[[float], Awaitable[int]] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """A workspace goes when nothing has used it for `max_age_s`, 0: never.

        `removed` hears which; `is_used` says where a call is at work, however long that takes; `forget` forgets what
        else is kept of sessions that were not used since a moment (seconds since 1970).
        """
        self._workspaces = workspaces
        self._max_age_s = max_age_s
        self._removed = removed
        self._is_used = is_used
        self._forget = forget
        self._now = now
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """Ends; what is half deleted is deleted at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def sweep(self) -> int:
        """Deletes what is too old now, and what an earlier sweep did not get to the end of.

        Returns:
            How many workspaces it took away.
        """
        taken = 0
        if self._max_age_s:
            moment = self._now() - self._max_age_s
            for workspace in await asyncio.to_thread(self._workspaces.unused_since, moment):
                # Here in the event loop, where calls get their workspace: none can get this one in between.
                if not self._is_used(workspace) and self._workspaces.take_away(workspace, moment):
                    self._removed(workspace)
                    taken += 1
            if self._forget is not None:
                await self._forget(moment)
        await asyncio.to_thread(delete_below, self._workspaces.removed)
        return taken

    async def _go_on(self) -> None:
        while True:
            try:
                if taken := await self.sweep():
                    log.info("removed %d workspaces that were not used for %g s", taken, self._max_age_s)
            except (OSError, sqlite3.Error) as error:
                log.error("workspaces cannot be removed, next try later: %s", error)
            await asyncio.sleep(min(_LONGEST_PAUSE_S, self._max_age_s / 10 or _LONGEST_PAUSE_S))


def delete_below(place: Path) -> None:
    """Deletes everything in a directory of ours."""
    try:
        top = os.open(place, DIRECTORY)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(top):  # noqa: PTH208 of a descriptor
            delete(top, name)
    finally:
        os.close(top)
