"""Finds playbooks by what their tasks mean."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from pagi_chassis.errors import PagiError

from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.mind_ledger import MindLedger
from pagi_memory.domain.model import Hit, KnowledgeBase, Shelf, owner_of
from pagi_memory.domain.ports import PlaybookVectors, VectorIndex
from pagi_memory.domain.serving_model import ServingModel

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

log = logging.getLogger(__name__)

# So long changes are gathered before the index is told of them.
PAUSE_S = 5.0
# As long where no search asks it: to tell it of 200 playbooks takes 0.25 s of CPU.
PATIENCE_S = 60.0
RETRY_S = 30.0
# So many prompts are embedded and kept at once.
_BATCH = 32
# Of so many shelves it is remembered how they looked; the one that was asked for longest ago gives way.
_MOST_STAMPS = 10_000


class TaskIndex:
    """The vectors of playbooks in the index, one shelf for each persona of a tenant; a component.

    The store is the truth. A search is right at once after a change, the index behind it follows in the background.

    Args:
        vectors: The truth.
        index: What is searched.
        ledger: Of what the index lacks.
        indexing: Tells the index.
        model: The one that serves; a playbook without a vector of it is given one in the background.
        pause_s: How long changes are gathered before the index is told.
        patience_s: How long where each shelf that has changed is searched without it.
        retry_s: How long it is left alone after a failure.
    """

    def __init__(
        self,
        vectors: PlaybookVectors,
        index: VectorIndex,
        ledger: MindLedger,
        indexing: Indexing,
        model: ServingModel,
        *,
        pause_s: float = PAUSE_S,
        patience_s: float = PATIENCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._vectors = vectors
        self._index = index
        self._ledger = ledger
        self._indexing = indexing
        self._model = model
        self._pause_s = pause_s
        self._patience_s = patience_s
        self._retry_s = retry_s
        self._stamps: dict[Shelf, tuple[object, ...]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to look, in the background, at what the index lacks."""
        self._task = asyncio.create_task(self._follow(), name="playbooks")

    async def stop(self) -> None:
        """Ends; what the index was not told, the next start tells it."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def nearest(self, tenant: str, persona: str, vector: Vector, limit: int) -> list[Hit]:
        """The vectors of a persona's playbooks that are nearest by cosine, best first. The model is to be held.

        Raises:
            IndexUnavailableError: The index cannot be read now.
        """
        shelf = _shelf(tenant, persona)
        stamp: tuple[object, ...] = (self._model.identity,)
        if self._vectors.is_shared:
            stamp += await self._vectors.stamp(shelf)
        before = self._stamps.pop(shelf, stamp)
        self._stamps[shelf] = stamp
        if before != stamp:
            self._note(shelf)
        if len(self._stamps) > _MOST_STAMPS:
            self._forget_stamp(next(iter(self._stamps)))
        return await self._index.nearest(vector, [shelf], limit)

    def changed(self, tenant: str, persona: str) -> None:
        """A vector of this persona came or went."""
        self._note(_shelf(tenant, persona))

    async def bring_in_step(self, *, check: bool = False) -> None:
        """Embeds what has no vector of the model that serves, and tells the index what it lacks.

        Args:
            check: Look at every shelf, and not only at those that have changed.

        Raises:
            EmbeddingUnavailableError: The model does not answer.
            IndexUnavailableError: The index cannot be written.
        """
        await self._embed_missing()
        if check:
            for shelf in await self._vectors.counts():
                self._ledger.touch(shelf)
        await self._indexing.bring_mind_in_step(check=check)

    def _forget_stamp(self, shelf: Shelf) -> None:
        """What another process changes there from now on would not be noticed."""
        del self._stamps[shelf]
        if self._vectors.is_shared:
            self._note(shelf)

    def _note(self, shelf: Shelf) -> None:
        self._index.outdate(shelf)
        self._ledger.touch(shelf)
        self._changed.set()

    async def _embed_missing(self) -> None:
        model = self._model.identity
        while texts := await self._vectors.without_vector(model, _BATCH):
            async with self._model.held():
                if self._model.identity != model:
                    return
                vectors = await self._model.embed(list(texts.values()))
            await self._vectors.add_vectors(model, dict(zip(texts, vectors, strict=True)))
            for shelf in await self._vectors.counts():
                self._note(shelf)

    async def _follow(self) -> None:
        check = True
        while True:
            self._changed.clear()
            try:
                await self.bring_in_step(check=check)
                check = False
                await self._changed.wait()
                await self._gather()
                continue
            except PagiError as error:
                log.warning("the index of the playbooks is behind: %s", error)
            except Exception:
                # Nobody waits for this task: said here or nowhere.
                log.exception("the index of the playbooks is behind")
            check = True
            await asyncio.sleep(self._retry_s)

    async def _gather(self) -> None:
        """Lets more changes come, so that the index is told of many at once."""
        until = asyncio.get_running_loop().time() + self._patience_s
        while True:
            await asyncio.sleep(self._pause_s)
            if asyncio.get_running_loop().time() >= until:
                return
            for shelf in self._ledger.behind:
                if await self._index.is_asked(shelf):
                    return


def _shelf(tenant: str, persona: str) -> Shelf:
    return Shelf(persona, KnowledgeBase.MIND, owner_of(tenant))
