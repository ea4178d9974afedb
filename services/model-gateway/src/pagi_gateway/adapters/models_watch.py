"""Follows `models.yaml`: what has changed and is right comes into force, and what is wrong is said and changes nothing.

It looks at the file once a second, which finds what editors, `mv` and mounted configuration do alike.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pagi_chassis.component import StartError
from pagi_chassis.errors import FailedPreconditionError, PagiError
from prometheus_client import Gauge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pagi_gateway.domain.models_config import ModelsConfig

    Stamp = tuple[int, int, int] | None

log = logging.getLogger(__name__)

WRONG = Gauge("pagi_gateway_models_file_wrong", "1 while models.yaml is wrong and what it said before is in force")
READ = Gauge("pagi_gateway_models_file_read_timestamp_seconds", "When what is in force was read from models.yaml")


class ModelsWatch:
    """A component that looks at the file.

    Args:
        path: Of the file, which may come later.
        read: Reads it; raises `StartError` where it is wrong.
        apply: Puts what it says in force, or raises and leaves all as it was.
        every_s: How often it looks, in seconds.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], ModelsConfig],
        apply: Callable[[ModelsConfig], Awaitable[None]],
        *,
        every_s: float = 1.0,
    ) -> None:
        self._path = path
        self._read = read
        self._apply = apply
        self._every_s = every_s
        self._stamp: Stamp = None
        self._fault = ""
        self._since = 0.0
        self._task: asyncio.Task[None] | None = None

    def first(self) -> ModelsConfig | None:
        """What the file says at the start; None where there is none.

        Raises:
            StartError: It is wrong.
        """
        self._stamp = _stamp(self._path)
        if self._stamp is None:
            return None
        config = self._read(self._path)
        self._took()
        return config

    async def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Looks no more."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def check(self) -> None:
        """Raises while the file is wrong.

        Raises:
            FailedPreconditionError: With the fault, and since when.
        """
        if self._fault:
            ago = time.time() - self._since
            raise FailedPreconditionError(f"{self._fault}\n(what it said before is in force; for {ago:.0f} s now)")

    async def look(self) -> None:
        """Reads the file where it has changed."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is None:
            self._refuse(f"{self._path} is gone")
            return
        try:
            await self._apply(self._read(self._path))
        except (StartError, PagiError) as error:
            self._refuse(str(error))
        except Exception as error:
            log.exception("%s cannot be used", self._path)
            self._refuse(f"{self._path} cannot be used: {type(error).__name__}")
        else:
            self._took()
            log.info("%s has changed: what it says now is in force", self._path)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.look()

    def _took(self) -> None:
        self._fault = ""
        WRONG.set(0)
        READ.set_to_current_time()

    def _refuse(self, fault: str) -> None:
        self._fault = fault
        self._since = time.time()
        WRONG.set(1)
        for line in fault.splitlines():
            log.error("%s", line)
        log.error("%s: what it said before stays in force", self._path.name)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
