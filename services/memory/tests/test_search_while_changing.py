"""Searches on the real store while documents are replaced and removed: never half of one, never two of one."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from pagi_memory.adapters.chroma_clients import EmbeddedChroma
from pagi_memory.adapters.chroma_index import ChromaIndex
from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.recall import Recall, Weighing
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.testing import HashingEmbedder, InMemoryKnowledgeFiles, ParagraphSplitter


def version(number: int) -> str:
    return "\n\n".join(f"Version v{number} of part {part} of the tea guide." for part in range(6))


@pytest.mark.parametrize("small", [0, 4_096], ids=["chroma", "memory"])
async def test_a_search_sees_one_version_of_a_document(tmp_path: Path, small: int) -> None:
    store, chroma = SqlitePassageStore(tmp_path / "memory.db"), ChromaIndex(EmbeddedChroma(tmp_path / "chroma"))
    await chroma.start()
    await store.start()
    index, files, serving = (
        MatrixIndex(chroma, store, small=small),
        InMemoryKnowledgeFiles(),
        ServingModel(HashingEmbedder()),
    )
    personas = Personas(store)
    ingestion = Ingestion(files, ParagraphSplitter(), serving, store, Indexing(store, index), personas)
    weighing = Weighing(merge=False)
    recall = Recall(store, index, QueryVectors(serving, size=9), serving, personas, weighing=weighing)
    last = 0

    async def change() -> None:
        nonlocal last
        for number in range(1, 30):
            files.texts["Domain-KB/tea.md"] = version(number)
            last = number
            await ingestion.run(check=False)
        del files.texts["Domain-KB/tea.md"]
        await ingestion.run(check=False)

    changing = asyncio.create_task(change())
    seen = set()
    while not changing.done():
        before = last
        found = await recall.search("version of the tea guide", top_k=20)
        versions = {re.search(r"v(\d+)", scored.passage.piece.text)[1] for scored in found}
        assert len(versions) <= 1, "two versions of a document in one answer"
        assert len(found) == len({scored.passage.piece.text for scored in found}) <= 6
        assert all(int(one) >= before - 1 for one in versions), "a version that was replaced long ago"
        seen |= versions
        await asyncio.sleep(0)
    await changing
    assert len(seen) > 3
    assert await recall.search("version of the tea guide", top_k=20) == []
    await store.stop()
    await chroma.stop()
