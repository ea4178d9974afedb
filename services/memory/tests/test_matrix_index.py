"""Small shelves in memory: always what the store says, whatever becomes of the index behind."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.vector_rows import best_of
from pagi_memory.domain.errors import IndexUnavailableError
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.model import Hit, KnowledgeBase, Shelf
from pagi_memory.testing import InMemoryPassageStore, InMemoryVectorIndex, ParagraphSplitter

DOMAIN = Shelf("default", KnowledgeBase.DOMAIN)
BODY = Shelf("default", KnowledgeBase.BODY)
SHELVES = [DOMAIN, BODY, Shelf("default", KnowledgeBase.MIND)]


class CountingStore(InMemoryPassageStore):
    def __init__(self) -> None:
        super().__init__()
        self.read: list[Shelf] = []
        self.scanned = 0

    async def vectors(self, shelf: Shelf):
        self.read.append(shelf)
        await asyncio.sleep(0)
        return await super().vectors(shelf)

    async def nearest(self, *arguments, **named):
        self.scanned += 1
        return await super().nearest(*arguments, **named)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def ingestion_of(mind, store, index) -> Ingestion:
    return Ingestion(mind.files, ParagraphSplitter(), mind.embedder, store, Indexing(store, index), mind.personas)


async def vector_of(mind, text: str):
    [vector] = await mind.embedder.embed([text])
    return vector


@pytest.mark.parametrize("small", [0, 2, 100])
async def test_small_and_large_shelves_answer_as_one(mind, store, small: int) -> None:
    inner = InMemoryVectorIndex()
    index = MatrixIndex(inner, store, small=small)
    await ingestion_of(mind, store, index).run()
    vector = await vector_of(mind, "green tea")
    exact = await store.nearest(vector, SHELVES, 3)
    found = await index.nearest(vector, SHELVES, 3)
    assert [hit.passage_id for hit in found] == [hit.passage_id for hit in exact]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in exact], abs=1e-6)


async def test_a_shelf_is_read_once_until_it_changes(mind, store) -> None:
    index = MatrixIndex(InMemoryVectorIndex(), store)
    ingestion = ingestion_of(mind, store, index)
    await ingestion.run()
    store.read.clear()
    vector = await vector_of(mind, "tea")
    for _ in range(3):
        await index.nearest(vector, SHELVES, 9)
    assert store.read == [DOMAIN, BODY]
    mind.files.texts["Domain-KB/new.md"] = "Tea of a new kind."
    await ingestion.run()
    store.read.clear()
    best = (await index.nearest(await vector_of(mind, "Tea of a new kind."), SHELVES, 1))[0]
    assert best.score == pytest.approx(1)
    assert store.read == [DOMAIN]


async def test_what_changes_while_a_shelf_is_read_is_not_missed(mind, store) -> None:
    index = MatrixIndex(InMemoryVectorIndex(), store)
    ingestion = ingestion_of(mind, store, index)
    await ingestion.run()
    vector = await vector_of(mind, "Tea of a new kind.")
    reading = asyncio.create_task(index.nearest(vector, SHELVES, 1))
    mind.files.texts["Domain-KB/new.md"] = "Tea of a new kind."
    await ingestion.run()
    await reading
    assert (await index.nearest(vector, SHELVES, 1))[0].score == pytest.approx(1)


async def test_small_shelves_are_searched_while_the_index_behind_is_down(mind, store) -> None:
    inner = InMemoryVectorIndex()
    index = MatrixIndex(inner, store)
    ingestion = ingestion_of(mind, store, index)
    await ingestion.run()
    inner.down = True
    mind.files.texts["Domain-KB/new.md"] = "Tea of a new kind."
    with pytest.raises(IndexUnavailableError):
        await ingestion.run()
    vector = await vector_of(mind, "Tea of a new kind.")
    assert (await index.nearest(vector, SHELVES, 1))[0].score == pytest.approx(1)


async def test_a_large_shelf_is_read_from_the_store_until_the_index_has_it_again(mind, store) -> None:
    index = MatrixIndex(InMemoryVectorIndex(), store, small=0)
    ingestion = ingestion_of(mind, store, index)
    await ingestion.run()
    vector = await vector_of(mind, "green tea")
    before = await index.nearest(vector, SHELVES, 3)
    await index.clear(DOMAIN)
    store.scanned = 0
    assert await index.nearest(vector, SHELVES, 3) == before
    assert store.scanned == 1
    await ingestion.run()
    assert await index.nearest(vector, SHELVES, 3) == before
    assert store.scanned == 1


async def test_no_more_is_kept_than_is_allowed(mind, store) -> None:
    index = MatrixIndex(InMemoryVectorIndex(), store, most=1)
    await ingestion_of(mind, store, index).run()
    vector = await vector_of(mind, "green tea")
    store.read.clear()
    for _ in range(2):
        assert len(await index.nearest(vector, SHELVES, 9)) == 4
    assert len(store.read) == 4


async def test_the_sizes_of_shelves_without_end_are_not_remembered(mind, store) -> None:
    index = MatrixIndex(InMemoryVectorIndex(), store)
    await ingestion_of(mind, store, index).run()
    vector = await vector_of(mind, "green tea")
    for i in range(10_050):
        await index.nearest(vector, [Shelf("default", KnowledgeBase.DOMAIN, f"{i:x}")], 9)
    assert len(index._sizes) == 10_000
    assert len(await index.nearest(vector, SHELVES, 9)) == 4


async def test_vectors_of_another_length_are_not_compared(mind, store) -> None:
    index = MatrixIndex(InMemoryVectorIndex(), store)
    await ingestion_of(mind, store, index).run()
    vector = await vector_of(mind, "tea")
    assert await index.nearest(vector[:10], SHELVES, 9) == []


def test_the_best_of_several_matrices_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(7).normal(size=(60, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = [f"p{i}" for i in range(60)]
    parts = [(ids[:20], rows[:20]), (ids[20:21], rows[20:21]), ([], rows[:0]), (ids[21:], rows[21:])]
    expected = sorted(zip(ids, (rows @ rows[5]).tolist(), strict=True), key=lambda pair: -pair[1])
    for limit in (1, 7, 60, 99):
        found = best_of(parts, rows[5], limit)
        assert [hit.passage_id for hit in found] == [name for name, _ in expected[:limit]]
        assert all(isinstance(hit, Hit) for hit in found)
        assert [hit.score for hit in found] == pytest.approx([score for _, score in expected[:limit]], abs=1e-6)
