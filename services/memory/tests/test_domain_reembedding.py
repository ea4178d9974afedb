from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from pagi_memory.domain.errors import EmbeddingUnavailableError
from pagi_memory.testing import HashingEmbedder


class Turned(HashingEmbedder):
    """Another model: its vectors point elsewhere, so that those of two models are far from each other."""

    def __init__(self, fails_after: int = 10**9) -> None:
        super().__init__("turned-1")
        self.fails_after = fails_after
        self.pause = asyncio.Event()
        self.pause.set()

    async def embed(self, texts: Sequence[str]) -> list:
        await self.pause.wait()
        if len(self.embedded) >= self.fails_after:
            raise EmbeddingUnavailableError("gone")
        return [vector[::-1].copy() for vector in await super().embed(texts)]


async def found(mind, query: str = "how long does green tea steep") -> list[tuple[str, float]]:
    return [(s.passage.id, round(s.hit.cosine, 5)) for s in await mind.recall.search(query)]


async def test_the_old_model_serves_until_the_new_one_has_all(mind) -> None:
    await mind.ingestion.run()
    before = await found(mind)
    other = Turned()
    other.pause.clear()
    change = asyncio.create_task(mind.reembedding.run(other))
    await asyncio.sleep(0)
    assert mind.reembedding.next_model == "turned-1"
    assert await found(mind) == before
    # What comes in meanwhile is of the old model, and is not forgotten.
    mind.files.texts["Domain-KB/new.md"] = "Oolong is new."
    await mind.ingestion.run()
    other.pause.set()
    await change
    assert (mind.serving.identity, await mind.store.serving_model()) == ("turned-1", "turned-1")
    assert mind.reembedding.next_model == ""
    # The same angles between all of them, so the same answers: nothing of two models was compared.
    assert await found(mind) == before
    assert (await found(mind, "oolong"))[0][1] > 0.5
    assert sorted(other.embedded)[:-1].count("Oolong is new.") == 1
    assert await mind.store.count_vectors("hashing-1") == 0
    assert not await mind.store.unindexed(9)


async def test_a_change_that_failed_goes_on_where_it_was(mind) -> None:
    await mind.ingestion.run()
    other = Turned(fails_after=2)
    with pytest.raises(EmbeddingUnavailableError):
        await mind.reembedding.run(other)
    assert (mind.serving.identity, await mind.reembedding.made()) == ("hashing-1", 2)
    other.fails_after = 10**9
    await mind.reembedding.run(other)
    assert mind.serving.identity == "turned-1"
    assert len(other.embedded) == len(set(other.embedded))


async def test_a_search_that_has_begun_ends_with_the_model_it_began_with(mind) -> None:
    await mind.ingestion.run()
    async with mind.serving.held():
        change = asyncio.create_task(mind.reembedding.run(Turned()))
        for _ in range(50):
            await asyncio.sleep(0)
        assert mind.serving.identity == "hashing-1"
        assert await mind.store.serving_model() == "hashing-1" or not change.done()
    await change
    assert mind.serving.identity == "turned-1"


async def test_without_an_index_the_change_is_made_and_the_index_follows(mind) -> None:
    await mind.ingestion.run()
    mind.index.down = True
    await mind.reembedding.run(Turned())
    assert mind.serving.identity == "turned-1"
    mind.index.down = False
    await mind.ingestion.run()
    assert not await mind.store.unindexed(9)
