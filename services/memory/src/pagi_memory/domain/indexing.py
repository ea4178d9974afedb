"""Keeps the vector index in step with the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pagi_memory.domain.errors import IndexUnavailableError
from pagi_memory.domain.model import Shelf
from pagi_memory.domain.ports import PassageStore, VectorIndex

log = logging.getLogger(__name__)

# So many changes go to the index at once: below Chroma's batch limit, a few megabytes of vectors.
BATCH = 1_000


class Indexing:
    """The store is the truth; what the index lacks, it is told, and what it has lost, it is given again."""

    def __init__(self, store: PassageStore, index: VectorIndex, *, batch: int = BATCH) -> None:
        self._store = store
        self._index = index
        self._batch = batch

    async def bring_in_step(self, *, check: bool = True) -> None:
        """Passes on what has changed; rebuilds every shelf that cannot be read or holds another number.

        Args:
            check: Look at every shelf, and not only at those that have changed.

        Raises:
            IndexUnavailableError: The index cannot be written now; the next call goes on from there.
        """
        if not check:
            await self._counts(sorted(await self._pass_on_changes(), key=_name))
            return
        shelves = await self._all_shelves()
        held = await self._counts(shelves)
        if unreadable := [shelf for shelf, count in held.items() if count is None]:
            for shelf in unreadable:
                await self._rebuild(shelf, "cannot be read")
            # What clears one that is badly broken may take its neighbours along.
            held = await self._counts(shelves)
        held |= await self._counts(sorted(await self._pass_on_changes(), key=_name))
        expected = await self._store.counts()
        for shelf, count in held.items():
            if count != expected.get(shelf, 0):
                await self._rebuild(shelf, f"holds {count} passages instead of {expected.get(shelf, 0)}")
        await self._counts(sorted(await self._pass_on_changes(), key=_name))

    async def rebuild(self) -> None:
        """Empties every shelf of the index; `bring_in_step` fills them again.

        Raises:
            IndexUnavailableError: The index cannot be written now.
        """
        failure: IndexUnavailableError | None = None
        for shelf in await self._all_shelves():
            await self._store.mark_unindexed(shelf)
            try:
                await self._index.clear(shelf)
            except IndexUnavailableError as error:
                failure = error
        if failure:
            raise failure

    async def _counts(self, shelves: Sequence[Shelf]) -> dict[Shelf, int | None]:
        return {shelf: await self._index.count(shelf) for shelf in shelves}

    async def _all_shelves(self) -> list[Shelf]:
        shelves = set(await self._index.shelves()) | (await self._store.counts()).keys()
        return sorted(shelves, key=_name)

    async def _rebuild(self, shelf: Shelf, reason: str) -> None:
        log.warning("the index of %s %s: it is rebuilt from the store", shelf.collection, reason)
        await self._index.clear(shelf)
        await self._store.mark_unindexed(shelf)

    async def _pass_on_changes(self) -> set[Shelf]:
        told: set[Shelf] = set()
        while changes := await self._store.unindexed(self._batch):
            for shelf, vectors in changes.items():
                await self._index.apply(shelf, vectors)
                await self._store.mark_indexed(list(vectors))
                told.add(shelf)
        return told


def _name(shelf: Shelf) -> str:
    return shelf.collection
