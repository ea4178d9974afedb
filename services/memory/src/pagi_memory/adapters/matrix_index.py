"""Exact search in memory for small shelves, before the index that serves the large ones.

A query of Chroma costs 0.85 ms of CPU for each collection, however little it holds; comparing with 4,000 vectors
costs a third of that, and finds exactly the nearest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pagi_memory.adapters.vector_rows import best_rows
from pagi_memory.domain.model import Hit, Shelf
from pagi_memory.domain.ports import PassageStore, VectorIndex

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

# Comparing takes 0.3 ms with as many; above, an index is quicker.
SMALL_SHELF = 4_096
# All that is kept in memory of small shelves together: 77 MB of vectors of 384 dimensions.
MOST_KEPT = 50_000


class MatrixIndex:
    """`VectorIndex`: what it is told goes to the index behind it, small shelves are answered from memory.

    A matrix is read from the store when its shelf is asked for first, and let go when anything of it changes, so
    that it is never another truth. A large shelf that the index behind has lost is answered from the store, slowly,
    until the index has it again.
    """

    def __init__(
        self, inner: VectorIndex, store: PassageStore, *, small: int = SMALL_SHELF, most: int = MOST_KEPT
    ) -> None:
        self._inner = inner
        self._store = store
        self._small = small
        self._most = most
        self._sizes: dict[Shelf, int] | None = None
        self._kept: OrderedDict[Shelf, tuple[list[str], Matrix]] = OrderedDict()
        self._behind: set[Shelf] = set()
        self._changes = 0

    async def shelves(self) -> list[Shelf]:
        """See `VectorIndex.shelves`."""
        return await self._inner.shelves()

    async def count(self, shelf: Shelf) -> int | None:
        """See `VectorIndex.count`: of the index behind."""
        count = await self._inner.count(shelf)
        if shelf in self._behind and count == (await self._store.counts()).get(shelf, 0):
            self._behind.discard(shelf)
        return count

    async def clear(self, shelf: Shelf) -> None:
        """See `VectorIndex.clear`."""
        self._behind.add(shelf)
        self._forget(shelf)
        await self._inner.clear(shelf)

    async def apply(self, shelf: Shelf, changes: Mapping[str, Vector | None]) -> None:
        """See `VectorIndex.apply`."""
        # First of all: small shelves are right also while the index behind cannot be written.
        self._forget(shelf)
        await self._inner.apply(shelf, changes)

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """See `VectorIndex.nearest`."""
        sizes = self._sizes
        if sizes is None:
            before = self._changes
            sizes = await self._store.counts()
            if before == self._changes:
                self._sizes = sizes
        hits: list[Hit] = []
        large = []
        for shelf in shelves:
            if not sizes.get(shelf):
                continue
            if sizes[shelf] > self._small:
                large.append(shelf)
                continue
            ids, matrix = await self._matrix(shelf)
            hits += best_rows(ids, matrix, vector, limit)
        indexed = [shelf for shelf in large if shelf not in self._behind]
        if indexed:
            hits += await self._inner.nearest(vector, indexed, limit)
        if len(indexed) < len(large):
            hits += await self._store.nearest(vector, [s for s in large if s in self._behind], limit)
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def _matrix(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        if shelf in self._kept:
            self._kept.move_to_end(shelf)
            return self._kept[shelf]
        before = self._changes
        found = await self._store.vectors(shelf)
        # What changed while it was read is read again by the next one.
        if before == self._changes:
            self._kept[shelf] = found
            while len(self._kept) > 1 and sum(len(ids) for ids, _ in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return found

    def _forget(self, shelf: Shelf) -> None:
        self._changes += 1
        self._sizes = None
        self._kept.pop(shelf, None)
