"""Takes in what changes in the folders while the service runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from pagi_chassis.errors import PagiError

from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.ports import KnowledgeFiles

log = logging.getLogger(__name__)

RETRY_S = 5.0


class Following:
    """A component: an ingestion after each change, and again a little later where one failed."""

    def __init__(self, files: KnowledgeFiles, ingestion: Ingestion, *, retry_s: float = RETRY_S) -> None:
        self._files = files
        self._ingestion = ingestion
        self._retry_s = retry_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to watch."""
        self._task = asyncio.create_task(self._follow(), name="follow-knowledge-bases")

    async def stop(self) -> None:
        """Ends it; a document that is being taken in is taken in at the next start."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _follow(self) -> None:
        missed = False
        while True:
            try:
                if missed:
                    # What was not noticed meanwhile is found by looking.
                    await self._ingestion.run()
                    missed = False
                async for _ in self._files.changes():
                    await self._ingestion.run(check=False)
            except (PagiError, OSError) as error:
                log.warning("following the knowledge bases: %s; again in %.0f s", error, self._retry_s)
            except Exception:  # whatever it was, the next change is followed too
                log.exception("following the knowledge bases failed; again in %.0f s", self._retry_s)
            missed = True
            await asyncio.sleep(self._retry_s)
