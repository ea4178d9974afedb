from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from pagi_memory.domain.errors import EmbeddingUnavailableError
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.testing import HashingEmbedder


class Slow(HashingEmbedder):
    """Embeds when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.fails = False

    async def embed(self, texts: Sequence[str]) -> list:
        await self.may.wait()
        if self.fails:
            raise EmbeddingUnavailableError("gone")
        return await super().embed(texts)


async def test_who_asks_at_the_same_time_shares_one_run_of_the_model():
    embedder = Slow()
    vectors = QueryVectors(embedder, size=9)
    first, *others = [asyncio.create_task(vectors.of("tea")) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    embedder.may.set()
    found = await asyncio.gather(*others)
    assert first.cancelled()
    assert embedder.embedded == ["tea"]
    assert all(vector is found[0] for vector in found)


async def test_a_failure_is_everybodys_and_is_not_kept():
    embedder = Slow()
    embedder.fails = True
    embedder.may.set()
    vectors = QueryVectors(embedder, size=9)
    failures = await asyncio.gather(vectors.of("tea"), vectors.of("tea"), return_exceptions=True)
    assert [type(failure) for failure in failures] == [EmbeddingUnavailableError] * 2
    embedder.fails = False
    assert (await vectors.of("tea")).shape == (64,)


@pytest.mark.parametrize(("size", "runs"), [(2, 3), (1, 4), (0, 4)])
async def test_the_ones_used_last_are_kept_of_each_model(size: int, runs: int):
    embedder = HashingEmbedder()
    vectors = QueryVectors(embedder, size=size)
    for query in ("a", "b", "a"):
        await vectors.of(query)
    embedder.identity = "other"
    await vectors.of("a")
    assert len(embedder.embedded) == runs
