"""Vectors of queries, kept because people and loops ask the same again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pagi_memory.domain.ports import Embedder

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector


class QueryVectors:
    """The vectors of the queries used last, of whichever model the embedder is now."""

    def __init__(self, embedder: Embedder, *, size: int) -> None:
        self._embedder = embedder
        self._size = size
        self._kept: OrderedDict[tuple[str, str], Vector] = OrderedDict()

    async def of(self, query: str) -> Vector:
        """The vector of a query, made at most once while it is kept."""
        key = (self._embedder.identity, query)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        [vector] = await self._embedder.embed([query])
        self._kept[key] = vector
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return vector
