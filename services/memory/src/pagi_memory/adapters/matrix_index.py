"""Exact search in memory for small shelves, before the index that serves the large ones.

A query of Chroma costs 0.85 ms of CPU for each collection, however little it holds; comparing with 4,000 vectors
costs a third of that, and finds exactly the nearest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pagi_memory.adapters.vector_rows import best_of
from pagi_memory.domain.model import Hit, KnowledgeBase, Shelf
from pagi_memory.domain.ports import VectorIndex

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

# Comparing takes 0.3 ms with as many; above, an index is quicker.
SMALL_SHELF = 4_096
# All that is kept in memory of small shelves together: 77 MB of vectors of 384 dimensions.
MOST_KEPT = 50_000
# Of so many shelves it is remembered how much they hold.
_MOST_SIZES = 10_000


class ShelfVectors(Protocol):
    """The truth about vectors, shelf by shelf: those of the model that serves."""

    async def count(self, shelf: Shelf) -> int:
        """How many there are."""

    async def vectors(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        """Their ids, and one of them in each row."""

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """The nearest by comparing with every one."""


class MatrixIndex:
    """`VectorIndex`: what it is told goes to the index behind it, small shelves are answered from memory.

    A matrix is read from the store when its shelf is asked for first, and let go when anything of it changes, so
    that it is never another truth. A large shelf that the index behind has lost is answered from the store, slowly,
    until the index has it again.

    Args:
        inner: The index behind.
        store: Of documents.
        mind: Of playbooks; without one there are none.
        small: Shelves of up to as many are answered from memory.
        most: So many vectors are kept there.
    """

    def __init__(
        self,
        inner: VectorIndex,
        store: ShelfVectors,
        *,
        mind: ShelfVectors | None = None,
        small: int = SMALL_SHELF,
        most: int = MOST_KEPT,
    ) -> None:
        self._inner = inner
        self._stores = {kb: store for kb in KnowledgeBase if kb is not KnowledgeBase.MIND or mind is None}
        if mind is not None:
            self._stores[KnowledgeBase.MIND] = mind
        self._small = small
        self._most = most
        self._sizes: dict[Shelf, int] = {}
        self._kept: OrderedDict[Shelf, tuple[list[str], Matrix]] = OrderedDict()
        self._behind: set[Shelf] = set()
        self._changes = self._rows = 0

    async def shelves(self) -> list[Shelf]:
        """See `VectorIndex.shelves`."""
        return await self._inner.shelves()

    async def count(self, shelf: Shelf) -> int | None:
        """See `VectorIndex.count`: of the index behind."""
        count = await self._inner.count(shelf)
        if shelf in self._behind and count == await self._of(shelf).count(shelf):
            self._behind.discard(shelf)
        return count

    async def entries(self, shelf: Shelf) -> set[str]:
        """See `VectorIndex.entries`: of the index behind."""
        return await self._inner.entries(shelf)

    async def clear(self, shelf: Shelf) -> None:
        """See `VectorIndex.clear`."""
        self._behind.add(shelf)
        self.outdate(shelf)
        await self._inner.clear(shelf)

    async def apply(self, shelf: Shelf, changes: Mapping[str, Vector | None]) -> None:
        """See `VectorIndex.apply`."""
        # First of all: small shelves are right also while the index behind cannot be written.
        self.outdate(shelf)
        await self._inner.apply(shelf, changes)

    def outdate(self, shelf: Shelf) -> None:
        """See `VectorIndex.outdate`."""
        self._changes += 1
        self._sizes.pop(shelf, None)
        self._drop(shelf)

    async def is_asked(self, shelf: Shelf) -> bool:
        """See `VectorIndex.is_asked`."""
        return await self._size(shelf) > self._small

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """See `VectorIndex.nearest`."""
        hits: list[Hit] = []
        indexed, matrices = [], []
        for shelf in shelves:
            size = await self._size(shelf)
            if size == 0:
                continue
            if size <= self._small:
                matrices.append(await self._matrix(shelf))
            elif shelf in self._behind:
                hits += await self._of(shelf).nearest(vector, [shelf], limit)
            else:
                indexed.append(shelf)
        if indexed:
            hits += await self._inner.nearest(vector, indexed, limit)
        exact = best_of(matrices, vector, limit)
        if not hits:
            return exact
        hits += exact
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    def _of(self, shelf: Shelf) -> ShelfVectors:
        return self._stores[shelf.knowledge_base]

    async def _size(self, shelf: Shelf) -> int:
        if shelf in self._sizes:
            return self._sizes[shelf]
        before = self._changes
        size = await self._of(shelf).count(shelf)
        if before == self._changes:
            self._sizes[shelf] = size
            # Whoever asks may name tenants without end.
            while len(self._sizes) > _MOST_SIZES:
                del self._sizes[next(iter(self._sizes))]
        return size

    async def _matrix(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        if shelf in self._kept:
            self._kept.move_to_end(shelf)
            return self._kept[shelf]
        before = self._changes
        found = await self._of(shelf).vectors(shelf)
        # What changed while it was read is read again by the next one.
        if before == self._changes:
            self._kept[shelf] = found
            self._rows += len(found[0])
            while len(self._kept) > 1 and self._rows > self._most:
                self._drop(next(iter(self._kept)))
        return found

    def _drop(self, shelf: Shelf) -> None:
        ids, _ = self._kept.pop(shelf, ((), None))
        self._rows -= len(ids)
