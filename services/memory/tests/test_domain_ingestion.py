from __future__ import annotations

import logging

import pytest
from pagi_memory.domain.ingestion import IngestionReport
from pagi_memory.domain.model import KnowledgeBase, Shelf
from pagi_memory.testing import HashingEmbedder

DOMAIN = Shelf("default", KnowledgeBase.DOMAIN)


async def in_step(mind) -> bool:
    counts = await mind.store.counts()
    return all([await mind.index.count(shelf) == n for shelf, n in counts.items()]) and not await mind.store.unindexed(
        9
    )


async def test_a_second_run_does_nothing(mind) -> None:
    assert await mind.ingestion.run() == IngestionReport(unchanged=0, stored=6, removed=0)
    embedded, told = len(mind.embedder.embedded), mind.index.told
    assert await mind.ingestion.run() == IngestionReport(unchanged=6, stored=0, removed=0)
    assert (len(mind.embedder.embedded), mind.index.told) == (embedded, told)


async def test_the_soul_is_stored_whole_and_not_embedded(mind) -> None:
    mind.files.texts["Soul-KB/b.md"] = "\nAnd kind.\n"
    await mind.ingestion.run()
    assert mind.personas.soul("") == "And kind.\n\nI am the assistant."
    assert not [text for text in mind.embedder.embedded if "kind" in text or "assistant" in text]
    assert all(shelf.knowledge_base is not KnowledgeBase.SOUL for shelf in await mind.store.counts())


async def test_a_changed_document_is_replaced(mind) -> None:
    await mind.ingestion.run()
    mind.files.texts["Domain-KB/tea.md"] = "White tea steeps two minutes."
    assert (await mind.ingestion.run()).stored == 1
    found = [s.passage.piece.text for s in await mind.recall.search("tea", top_k=100)]
    assert found == ["White tea steeps two minutes."]
    assert await in_step(mind)


async def test_a_vanished_document_is_removed(mind, caplog: pytest.LogCaptureFixture) -> None:
    await mind.ingestion.run()
    del mind.files.texts["Domain-KB/tea.md"]
    with caplog.at_level(logging.INFO):
        assert (await mind.ingestion.run()).removed == 1
    assert "Domain-KB/tea.md" in caplog.text
    assert await mind.recall.search("green tea steeps") == []
    assert await in_step(mind)


async def test_a_document_that_cannot_be_read_now_stays_as_it_was(mind) -> None:
    await mind.ingestion.run()
    mind.files.unreadable.add("Domain-KB/tea.md")
    assert (await mind.ingestion.run()).removed == 0
    assert await mind.recall.search("green tea steeps")


async def test_another_model_embeds_everything_anew(mind) -> None:
    await mind.ingestion.run()
    mind.embedder.identity = "hashing-2"
    report = await mind.ingestion.run()
    # The two Souls do not depend on it.
    assert (report.stored, report.unchanged) == (4, 2)
    assert isinstance(mind.embedder, HashingEmbedder)


async def test_what_the_index_missed_reaches_it_at_the_next_run(mind) -> None:
    mind.index.down = True
    with pytest.raises(Exception, match="down"):
        await mind.ingestion.run()
    assert await mind.store.counts()
    mind.index.down = False
    await mind.ingestion.run()
    assert await in_step(mind)


@pytest.mark.parametrize("fault", ["broken", "lost", "one_lost", "one_too_many"])
async def test_an_index_that_is_broken_or_behind_is_rebuilt(mind, fault: str, caplog) -> None:
    await mind.ingestion.run()
    before = [s.passage.id for s in await mind.recall.search("tea", top_k=100)]
    [stray] = await mind.embedder.embed(["stray"])
    match fault:
        case "broken":
            mind.index.broken.add(DOMAIN)
        case "lost":
            await mind.index.clear(DOMAIN)
        case "one_lost":
            await mind.index.apply(DOMAIN, {before[0]: None})
        case "one_too_many":
            await mind.index.apply(DOMAIN, {"stray": stray})
    with caplog.at_level(logging.WARNING):
        await mind.ingestion.run()
    assert "Domain-KB" in caplog.text
    assert "rebuilt" in caplog.text
    assert await in_step(mind)
    assert [s.passage.id for s in await mind.recall.search("tea", top_k=100)] == before


async def test_a_shelf_that_nothing_belongs_to_is_emptied(mind) -> None:
    await mind.ingestion.run()
    ghost = Shelf("ghost", KnowledgeBase.DOMAIN)
    [vector] = await mind.embedder.embed(["boo"])
    await mind.index.apply(ghost, {"boo": vector})
    await mind.ingestion.run()
    assert await mind.index.count(ghost) == 0


@pytest.mark.parametrize(
    ("name", "shelf"),
    [
        ("Domain-KB", DOMAIN),
        ("companion-dog.Body-KB", Shelf("companion-dog", KnowledgeBase.BODY)),
        ("somebody-elses", None),
        ("default.Domain-KB", None),
    ],
)
def test_collections_are_named_after_shelves(name: str, shelf: Shelf | None) -> None:
    assert Shelf.of_collection(name) == shelf
    assert shelf is None or shelf.collection == name
