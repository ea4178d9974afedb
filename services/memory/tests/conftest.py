from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.domain.context import ContextAssembly
from pagi_memory.domain.history import History
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.recall import Recall, Weighing
from pagi_memory.testing import (
    HashingEmbedder,
    InMemoryKnowledgeFiles,
    InMemoryPassageStore,
    InMemorySessionStore,
    InMemoryVectorIndex,
    ParagraphSplitter,
)


class FakeMind:
    """The whole domain on fakes."""

    def __init__(self, texts: dict[str, str] | None = None) -> None:
        self.files = InMemoryKnowledgeFiles(texts)
        self.embedder = HashingEmbedder()
        self.store = InMemoryPassageStore()
        self.index = InMemoryVectorIndex()
        self.sessions = InMemorySessionStore()
        self.personas = Personas(self.store)
        self.indexing = Indexing(self.store, self.index, batch=2)
        self.ingestion = Ingestion(
            self.files, ParagraphSplitter(), self.embedder, self.store, self.indexing, self.personas
        )
        self.recall = Recall(
            self.store,
            self.index,
            QueryVectors(self.embedder, size=2),
            self.personas,
            weighing=Weighing(least_similarity=0.3),
        )
        self.history = History(self.sessions)
        self.context = ContextAssembly(self.personas, self.history, self.recall)


@pytest.fixture
def mind() -> Iterator[FakeMind]:
    return FakeMind(
        {
            "Soul-KB/persona.md": "I am the assistant.",
            "Domain-KB/tea.md": "Green tea steeps three minutes.\n\nBlack tea steeps five minutes.",
            "Domain-KB/dogs.md": "A dog barks at strangers.",
            "Body-KB/kettle.md": "The kettle heats water to ninety degrees.",
            "personas/dog/Soul-KB/persona.md": "I am Rex.",
            "personas/dog/Domain-KB/walks.md": "Walks are at seven.",
        }
    )


@pytest.fixture
async def embedder() -> AsyncIterator[OnnxEmbedder]:
    embedder = OnnxEmbedder()
    await embedder.start()
    yield embedder
    await embedder.stop()
