"""Makes the vectors of another model beside those that serve, and lets them take over when all are there."""

from __future__ import annotations

import logging

from pagi_memory.domain.errors import IndexUnavailableError
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.ports import Embedder, PassageStore, PlaybookVectors
from pagi_memory.domain.serving_model import ServingModel

log = logging.getLogger(__name__)

# So many passages are embedded and kept at once; a process that dies has lost no more than these.
BATCH = 32


class Reembedding:
    """A change of the embedding model, while the vectors of the old one answer.

    Killed at any moment, the next one goes on with the vectors that are kept.
    """

    def __init__(
        self,
        store: PassageStore,
        serving: ServingModel,
        ingestion: Ingestion,
        indexing: Indexing,
        *,
        playbooks: PlaybookVectors | None = None,
        batch: int = BATCH,
    ) -> None:
        self._store = store
        self._playbooks = playbooks
        self._serving = serving
        self._ingestion = ingestion
        self._indexing = indexing
        self._batch = batch
        # The model that the vectors are being made of; empty: none is.
        self.next_model = ""

    async def made(self) -> int:
        """How many passages have a vector of the next model."""
        return await self._store.count_vectors(self.next_model) if self.next_model else 0

    async def run(self, embedder: Embedder) -> None:
        """Embeds every passage with another model, then lets it serve.

        Raises:
            EmbeddingUnavailableError: The other model does not answer; what was made is kept for the next call.
            StoreUnavailableError: The store cannot be written.
        """
        self.next_model = embedder.identity
        log.info("embedding anew with %s; %s serves meanwhile", embedder.identity, self._serving.identity)
        while True:
            await self._make_missing(embedder)
            # Nobody stores a document from here on, so that a look at what is missing stays true.
            async with self._ingestion.lock:
                if await self._store.without_vector(embedder.identity, 1):
                    continue
                async with self._serving.replaced_by(embedder):
                    await self._store.serve_model(embedder.identity)
                    # From now on no vector of the old model is compared with a query of the new one.
                    await self._empty_index()
                self.next_model = ""
                log.info("%s serves", embedder.identity)
                await self._fill_index()
                return

    async def _make_missing(self, embedder: Embedder) -> None:
        for store in (self._store, self._playbooks) if self._playbooks else (self._store,):
            while texts := await store.without_vector(embedder.identity, self._batch):
                vectors = await embedder.embed(list(texts.values()))
                await store.add_vectors(embedder.identity, dict(zip(texts, vectors, strict=True)))

    async def _empty_index(self) -> None:
        try:
            await self._indexing.rebuild()
        except IndexUnavailableError as error:
            log.warning("the index still holds vectors of the old model: %s", error)

    async def _fill_index(self) -> None:
        try:
            await self._indexing.bring_in_step()
            await self._indexing.bring_mind_in_step()
        except IndexUnavailableError as error:
            log.warning("the index is filled at the next change: %s", error)
