"""Vectors of queries, kept because people and loops ask the same again."""

from __future__ import annotations

import asyncio
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
        self._making: dict[tuple[str, str], asyncio.Task[Vector]] = {}

    def known(self, query: str) -> tuple[str, Vector] | None:
        """The model that serves and its vector of a query, where it is kept; it is not made."""
        model = self._embedder.identity
        vector = self._kept.get((model, query))
        return None if vector is None else (model, vector)

    async def of(self, query: str) -> Vector:
        """The vector of a query, made once while it is kept, also where several ask for it at the same time.

        Raises:
            EmbeddingUnavailableError: The model does not answer.
        """
        key = (self._embedder.identity, query)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(self._make(key))
            making.add_done_callback(lambda task: self._made(key, task))
        # Who asked first may go: the others wait on.
        return await asyncio.shield(making)

    def _made(self, key: tuple[str, str], task: asyncio.Task[Vector]) -> None:
        del self._making[key]
        if not task.cancelled():
            # Looked at, so that a failure is not told of again where nobody waited to the end.
            task.exception()

    async def _make(self, key: tuple[str, str]) -> Vector:
        vector = await self._embedder.embed_query(key[1])
        self._kept[key] = vector
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return vector
