"""The embedding model that serves, which another can replace while queries go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pagi_memory.domain.ports import Embedder

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector


class ServingModel:
    """`Embedder` that stands for the one that serves now.

    Whoever compares vectors of a query with stored ones holds it meanwhile: both must be of one model.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._held = 0
        self._changed = asyncio.Condition()
        self._switching = False

    @property
    def identity(self) -> str:
        """See `Embedder.identity`."""
        return self._embedder.identity

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed`."""
        return await self._embedder.embed(texts)

    async def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`."""
        return await self._embedder.embed_query(text)

    def use(self, embedder: Embedder) -> None:
        """Takes another, before anything is served."""
        self._embedder = embedder

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The model stays the same inside; waits while another takes its place."""
        while self._switching:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._switching)
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._switching and not self._held:
                async with self._changed:
                    self._changed.notify_all()

    @asynccontextmanager
    async def replaced_by(self, embedder: Embedder) -> AsyncIterator[None]:
        """Nobody holds it inside; afterwards the other serves, unless the body failed."""
        self._switching = True
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._held)
            yield
            self._embedder = embedder
        finally:
            self._switching = False
            async with self._changed:
                self._changed.notify_all()
