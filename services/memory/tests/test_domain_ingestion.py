from __future__ import annotations

import asyncio
import logging

import pytest
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.following import Following
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion, IngestionReport, IngestPhase
from pagi_memory.domain.model import KnowledgeBase, Shelf
from pagi_memory.testing import InMemoryKnowledgeFiles, InMemoryPassageStore, ParagraphSplitter

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


async def test_only_what_changed_of_a_document_is_embedded(mind) -> None:
    await mind.ingestion.run()
    before = {p.piece.text: p.id for p in (await mind.store.document("Domain-KB/tea.md"))[2]}
    mind.embedder.embedded.clear()
    told = mind.index.told
    mind.files.texts["Domain-KB/tea.md"] = "White tea is new here.\n\n" + mind.files.texts["Domain-KB/tea.md"]
    await mind.ingestion.run()
    assert mind.embedder.embedded == ["White tea is new here."]
    assert mind.index.told == told + 1
    after = {p.piece.text: p for p in (await mind.store.document("Domain-KB/tea.md"))[2]}
    # What only moved is the same passage in another place.
    assert before.items() <= {text: p.id for text, p in after.items()}.items()
    assert [p.piece.index for p in after.values()] == [0, 1, 2]
    assert await in_step(mind)


async def test_a_rebuild_takes_in_everything_anew(mind) -> None:
    await mind.ingestion.run()
    before = [(s.passage.id, s.score) for s in await mind.recall.search("tea", top_k=100)]
    mind.embedder.embedded.clear()
    report = await mind.ingestion.run(rebuild=True)
    assert (report.stored, report.unchanged, report.removed) == (6, 0, 0)
    assert len(mind.embedder.embedded) == 5
    assert [(s.passage.id, s.score) for s in await mind.recall.search("tea", top_k=100)] == before
    assert await in_step(mind)


async def test_progress_is_told_and_ends_with_what_was_skipped(mind) -> None:
    mind.files.damaged.add("Domain-KB/dogs.md")
    mind.files.unreadable.add("Body-KB/kettle.md")
    told = []
    report = await mind.ingestion.run(tell=told.append)
    assert [progress.phase for progress in told if progress.phase is not IngestPhase.STORING] == [
        IngestPhase.LOOKING,
        IngestPhase.INDEXING,
        IngestPhase.DONE,
    ]
    assert [(p.done, p.total) for p in told if p.phase is IngestPhase.STORING] == [(n, 5) for n in range(6)]
    assert told[-1].report == report
    assert report.skipped == {"Domain-KB/dogs.md": "it is damaged", "Body-KB/kettle.md": "it cannot be read"}
    assert (report.stored, report.unchanged) == (4, 0)


async def test_what_could_not_be_read_is_tried_again_when_it_changes(mind) -> None:
    mind.files.damaged.add("Domain-KB/dogs.md")
    await mind.ingestion.run()
    mind.files.damaged.clear()
    assert (await mind.ingestion.run()).skipped == {"Domain-KB/dogs.md": "it is damaged"}
    mind.files.texts["Domain-KB/dogs.md"] = "A dog barks again."
    report = await mind.ingestion.run()
    assert (report.stored, report.skipped) == (1, {})


async def test_two_runs_at_once_come_one_after_the_other(mind) -> None:
    first, second = await asyncio.gather(mind.ingestion.run(), mind.ingestion.run())
    assert (first.stored, second.stored, second.unchanged) == (6, 0, 6)


async def test_a_failure_is_told_as_it_is_and_the_next_run_goes_on(mind) -> None:
    class Full(InMemoryPassageStore):
        async def replace(self, document) -> None:
            raise StoreUnavailableError("disk full")

    ingestion = Ingestion(
        mind.files, ParagraphSplitter(), mind.serving, Full(), Indexing(mind.store, mind.index), mind.personas
    )
    with pytest.raises(StoreUnavailableError, match="disk full"):
        await ingestion.run()
    assert (await mind.ingestion.run()).stored == 6


async def test_changes_are_followed_and_failures_survived(mind) -> None:
    following = Following(mind.files, mind.ingestion, retry_s=0.01)
    await following.start()
    mind.index.down = True
    mind.files.touched.set()
    await until(lambda: not mind.ingestion.in_step and mind.ingestion.skipped is not None)
    mind.index.down = False
    await until(lambda: mind.ingestion.in_step)
    mind.files.texts["Domain-KB/new.md"] = "Oolong is new."
    mind.files.touched.set()
    await until(lambda: "Oolong is new." in mind.embedder.embedded and mind.ingestion.in_step)
    [found, *_] = await mind.recall.search("oolong")
    assert found.passage.source == "Domain-KB/new.md"
    await following.stop()


async def test_a_fault_that_nobody_thought_of_does_not_end_the_following(mind, caplog) -> None:
    class Odd(InMemoryKnowledgeFiles):
        faults = 2

        async def look(self):
            if self.faults:
                self.faults -= 1
                raise RuntimeError("odd")
            return await super().look()

    files = Odd(mind.files.texts)
    ingestion = Ingestion(files, ParagraphSplitter(), mind.serving, mind.store, mind.indexing, mind.personas)
    following = Following(files, ingestion, retry_s=0.001)
    await following.start()
    files.touched.set()
    await until(lambda: ingestion.in_step)
    assert "odd" in caplog.text
    await following.stop()


async def test_what_each_shelf_holds_is_told_after_each_run(mind) -> None:
    told = []
    ingestion = Ingestion(
        mind.files, ParagraphSplitter(), mind.serving, mind.store, mind.indexing, mind.personas, count=told.append
    )
    await ingestion.run()
    mind.files.texts["Domain-KB/new.md"] = "Oolong."
    await ingestion.run(check=False)
    assert [counts[DOMAIN] for counts in told] == [3, 4]


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


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
