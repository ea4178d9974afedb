"""Keeps the vector index in step with the stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from pagi_memory.domain.errors import IndexUnavailableError
from pagi_memory.domain.model import KnowledgeBase, Shelf
from pagi_memory.domain.ports import Ledger, VectorIndex

log = logging.getLogger(__name__)

# So many changes go to the index at once: below Chroma's batch limit, a few megabytes of vectors.
BATCH = 1_000
FROM_THE_FILES = "`make ingest REBUILD=1` makes all of it anew from the files"


class Indexing:
    """The stores are the truth; what the index lacks, it is told, and what it has lost, it is given again.

    Args:
        store: Of the documents.
        index: Of everything.
        mind: Of the playbooks; without one there are none.
        batch: So many changes are told at once.
    """

    def __init__(self, store: Ledger, index: VectorIndex, *, mind: Ledger | None = None, batch: int = BATCH) -> None:
        self._documents = store
        self._mind = mind
        self._index = index
        self._batch = batch
        # One at a time: what is told of one shelf must not overtake what was told of it before.
        self._turn = asyncio.Lock()

    async def bring_in_step(self, *, check: bool = True) -> None:
        """Passes on what has changed of documents; rebuilds shelves that cannot be read or hold another number.

        Args:
            check: Look at every shelf, and not only at those that have changed.

        Raises:
            IndexUnavailableError: The index cannot be written now; the next call goes on from there.
        """
        async with self._turn:
            await self._step(self._documents, check)

    async def bring_mind_in_step(self, *, check: bool = False) -> None:
        """The same for playbooks.

        Raises:
            IndexUnavailableError: The index cannot be written now; the next call goes on from there.
        """
        if self._mind:
            async with self._turn:
                await self._step(self._mind, check)

    async def rebuild(self) -> None:
        """Empties every shelf of the index; `bring_in_step` and `bring_mind_in_step` fill them again.

        Raises:
            IndexUnavailableError: The index cannot be written now.
        """
        failure: IndexUnavailableError | None = None
        async with self._turn:
            for ledger in self._ledgers:
                for shelf in await self._shelves(ledger):
                    await ledger.mark_unindexed(shelf)
                    try:
                        await self._index.clear(shelf)
                    except IndexUnavailableError as error:
                        failure = error
        if failure:
            raise failure

    @property
    def _ledgers(self) -> list[Ledger]:
        return [self._documents, self._mind] if self._mind else [self._documents]

    async def _step(self, ledger: Ledger, check: bool) -> None:
        if not check:
            await self._counts(await self._pass_on_changes(ledger))
            return
        unreadable = [
            shelf for shelf, count in (await self._counts(await self._shelves(ledger))).items() if count is None
        ]
        for shelf in unreadable:
            await self._rebuild(ledger, shelf, "cannot be read")
        # What clears one that is badly broken may take its neighbours along.
        for each in self._ledgers if unreadable else [ledger]:
            await self._compare(each)

    async def _compare(self, ledger: Ledger) -> None:
        held = await self._counts(await self._shelves(ledger))
        held |= await self._counts(await self._pass_on_changes(ledger))
        expected = await ledger.counts()
        for shelf, count in held.items():
            if count != expected.get(shelf, 0):
                await self._rebuild(ledger, shelf, f"holds {count} passages instead of {expected.get(shelf, 0)}")
        await self._counts(await self._pass_on_changes(ledger))

    async def _counts(self, shelves: Collection[Shelf]) -> dict[Shelf, int | None]:
        return {shelf: await self._index.count(shelf) for shelf in sorted(shelves, key=_name)}

    async def _shelves(self, ledger: Ledger) -> set[Shelf]:
        indexed = {shelf for shelf in await self._index.shelves() if (ledger is self._mind) == _is_mind(shelf)}
        return indexed | (await ledger.counts()).keys()

    async def _rebuild(self, ledger: Ledger, shelf: Shelf, reason: str) -> None:
        log.warning("the index of %s %s: it is rebuilt from the store; %s", shelf.collection, reason, FROM_THE_FILES)
        await self._index.clear(shelf)
        await ledger.mark_unindexed(shelf)

    async def _pass_on_changes(self, ledger: Ledger) -> set[Shelf]:
        told: set[Shelf] = set()
        while changes := await ledger.unindexed(self._batch):
            for shelf, vectors in changes.items():
                await self._index.apply(shelf, vectors)
                await ledger.mark_indexed(list(vectors))
                told.add(shelf)
        return told


def _name(shelf: Shelf) -> str:
    return shelf.collection


def _is_mind(shelf: Shelf) -> bool:
    return shelf.knowledge_base is KnowledgeBase.MIND
