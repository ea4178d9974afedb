"""What the vector index lacks of the playbooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagi_memory.domain.model import Shelf
from pagi_memory.domain.ports import PlaybookVectors, VectorIndex

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector


class MindLedger:
    """`Ledger` by comparing names: nothing needs to be noted with a change, which another process may have made."""

    def __init__(self, vectors: PlaybookVectors, index: VectorIndex) -> None:
        self._vectors = vectors
        self._index = index
        self._behind: set[Shelf] = set()

    @property
    def behind(self) -> frozenset[Shelf]:
        """The shelves that are compared the next time."""
        return frozenset(self._behind)

    async def counts(self) -> dict[Shelf, int]:
        """See `Ledger.counts`."""
        return await self._vectors.counts()

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """See `Ledger.unindexed`."""
        while self._behind:
            # Before it is looked at: what changes meanwhile puts it back.
            shelf = self._behind.pop()
            try:
                changes = await self._changes(shelf, limit)
            except BaseException:
                self._behind.add(shelf)
                raise
            if changes:
                # Until a comparison finds nothing.
                self._behind.add(shelf)
                return {shelf: changes}
        return {}

    async def mark_indexed(self, ids: Sequence[str]) -> None:
        """Does nothing: the next comparison tells."""

    async def mark_unindexed(self, shelf: Shelf) -> None:
        """See `Ledger.mark_unindexed`."""
        self.touch(shelf)

    def touch(self, shelf: Shelf) -> None:
        """The shelf is compared the next time."""
        self._behind.add(shelf)

    async def _changes(self, shelf: Shelf, limit: int) -> dict[str, Vector | None]:
        held, wanted = await self._index.entries(shelf), await self._vectors.entries(shelf)
        gone = sorted(held - wanted)[:limit]
        return {**dict.fromkeys(gone), **await self._vectors.some(sorted(wanted - held)[:limit])}
