"""Playbooks in the vector index: right at once, followed by the index, made again from the store when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pagi_chassis.errors import UnavailableError
from pagi_memory.adapters.chroma_clients import ChromaServer, EmbeddedChroma
from pagi_memory.adapters.chroma_index import ChromaIndex
from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.postgres_heart import PostgresHeart
from pagi_memory.adapters.sql_playbook_vectors import SqlPlaybookVectors
from pagi_memory.adapters.sql_playbooks import SqlPlaybookStore
from pagi_memory.adapters.sql_script import Script, SqlDatabase, Statement
from pagi_memory.adapters.sqlite_heart import SqliteHeart
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.domain import task_index
from pagi_memory.domain.errors import EmbeddingUnavailableError
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.learning import Learning
from pagi_memory.domain.mind_ledger import MindLedger
from pagi_memory.domain.model import KnowledgeBase, Shelf, owner_of
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.playbook import Kept, NewPlaybook, Outcome, PlaybookStep, Trial
from pagi_memory.domain.playbooks import Playbooks
from pagi_memory.domain.ports import VectorIndex
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.task_index import TaskIndex
from pagi_memory.testing import HashingEmbedder, InMemoryKnowledgeFiles, InMemoryVectorIndex, ParagraphSplitter

MIND = Shelf("default", KnowledgeBase.MIND)
DOMAIN = Shelf("default", KnowledgeBase.DOMAIN)
THEIRS = Shelf("default", KnowledgeBase.MIND, owner_of("acme"))


class Service:
    """What the bootstrap wires of it, on SQLite and any index behind."""

    def __init__(
        self,
        folder: Path,
        index: VectorIndex,
        *,
        small: int = 4_096,
        heart: SqlDatabase | None = None,
        patience_s: float = 0,
    ) -> None:
        self.index, self.embedder = index, HashingEmbedder()
        self.heart = heart or SqliteHeart(folder / "heart.db")
        self.passages = SqlitePassageStore(folder / "memory.db")
        self.serving = serving = ServingModel(self.embedder)
        self.vectors = SqlPlaybookVectors(self.heart, lambda: serving.identity)
        searched = MatrixIndex(index, self.passages, mind=self.vectors, small=small)
        self.ledger = MindLedger(self.vectors, searched)
        self.indexing = Indexing(self.passages, searched, mind=self.ledger)
        pauses = {"pause_s": 0, "patience_s": patience_s, "retry_s": 0.001}
        self.tasks = TaskIndex(self.vectors, searched, self.ledger, self.indexing, serving, **pauses)
        files = InMemoryKnowledgeFiles({"Domain-KB/tea.md": "Green tea.\n\nBlack tea."})
        personas = Personas(self.passages)
        self.ingestion = Ingestion(files, ParagraphSplitter(), serving, self.passages, self.indexing, personas)
        store, queries = SqlPlaybookStore(self.heart), QueryVectors(serving, size=99)
        self.playbooks = Playbooks(store, self.tasks, queries, serving)
        self.learning = Learning(store, self.tasks, queries, serving)

    async def start(self) -> None:
        await self.passages.start()
        await self.heart.start()
        await self.passages.serve_model(self.embedder.identity)
        await self.ingestion.run()

    async def stop(self) -> None:
        await self.tasks.stop()
        await self.heart.stop()
        await self.passages.stop()

    async def learn(self, prompt: str, tenant: str = "") -> str:
        step = PlaybookStep(prompt, "{}", "ok")
        return (await self.learning.record(tenant, NewPlaybook(prompt, "", prompt, [step])))[0]

    async def fitting(self, query: str, tenant: str = "") -> list[str]:
        found = await self.playbooks.fitting(tenant, query, persona="default", limit=3)
        return [each.playbook.id for each in found]


@pytest.fixture(params=["fake", "embedded", "server"])
async def chroma(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex]:
    if request.param == "fake":
        yield InMemoryVectorIndex()
        return
    if request.param == "embedded":
        index = ChromaIndex(EmbeddedChroma(tmp_path / "chroma"))
    else:
        index = ChromaIndex(ChromaServer("127.0.0.1", request.getfixturevalue("chroma_port")))
    await index.start()
    for shelf in await index.shelves():
        await index.clear(shelf)
    yield index
    for shelf in await index.shelves():
        await index.clear(shelf)
    await index.stop()


@pytest.fixture
async def service(tmp_path: Path, chroma: VectorIndex) -> AsyncIterator[Service]:
    service = Service(tmp_path, chroma)
    await service.start()
    yield service
    await service.stop()


async def test_the_index_follows_and_a_search_does_not_wait_for_it(service: Service) -> None:
    tea, theirs = await service.learn("boil tea"), await service.learn("boil tea", tenant="acme")
    dog = await service.learn("feed dog")
    assert await service.fitting("boil tea") == [tea]
    assert await service.fitting("boil tea", tenant="acme") == [theirs]
    assert await service.index.entries(MIND) == set(), "not told yet"
    await service.tasks.bring_in_step()
    assert (await service.index.entries(MIND), await service.index.count(THEIRS)) == (
        await service.vectors.entries(MIND),
        1,
    )
    await service.playbooks.change("", tea, prompt="cook rice")
    await service.playbooks.forget("", dog)
    assert (await service.fitting("cook rice"), await service.fitting("feed dog")) == ([tea], [])
    await service.tasks.bring_in_step()
    assert await service.index.entries(MIND) == await service.vectors.entries(MIND)
    assert await service.index.count(MIND) == 1
    assert MIND.collection == "Mind-KB"
    assert set(await service.index.shelves()) == {DOMAIN, MIND, THEIRS}


async def test_what_was_kept_is_found_though_nobody_waited_to_the_end(tmp_path: Path) -> None:
    service = Service(tmp_path, InMemoryVectorIndex())
    await service.start()
    assert await service.fitting("boil tea") == []
    kept, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(SqlPlaybookStore):
        async def keep(self, *arguments: Any, **bounds: Any) -> list[Kept]:
            done = await super().keep(*arguments, **bounds)
            kept.set()
            await goes_on.wait()
            return done

    store, queries = Slow(service.heart), QueryVectors(service.serving, size=9)
    service.learning = Learning(store, service.tasks, queries, service.serving)
    learning = asyncio.create_task(service.learn("boil tea"))
    await kept.wait()
    learning.cancel()
    await asyncio.gather(learning, return_exceptions=True)
    goes_on.set()
    async with asyncio.timeout(5):
        while not await service.fitting("boil tea"):
            await asyncio.sleep(0.001)
    await service.stop()


async def test_what_the_index_has_lost_or_has_too_many_of_is_mended(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    tea = await service.learn("boil tea")
    await service.learn("boil tea", tenant="acme")
    await service.tasks.bring_in_step()
    [vector] = await service.embedder.embed(["nothing"])
    orphan = Shelf("gone", KnowledgeBase.MIND)
    await service.index.clear(MIND)
    await service.index.apply(THEIRS, {"999": vector})
    await service.index.apply(orphan, {"5": vector})
    await service.ingestion.run()
    assert await service.index.count(DOMAIN) == 2, "documents and playbooks leave each other alone"
    await service.tasks.bring_in_step(check=True)
    for shelf in (MIND, THEIRS):
        assert await service.index.entries(shelf) == await service.vectors.entries(shelf)
    assert await service.index.count(orphan) == 0
    assert await service.fitting("boil tea") == [tea]


async def test_a_shelf_too_large_for_memory_is_asked_of_the_index(tmp_path: Path, chroma: VectorIndex) -> None:
    service = Service(tmp_path, chroma, small=0)
    await service.start()
    tea = await service.learn("boil tea")
    await service.tasks.bring_in_step()
    assert await service.fitting("boil tea") == [tea]
    await chroma.clear(MIND)
    assert await service.fitting("boil tea") == [], "it is the index that answered"
    await service.tasks.bring_in_step(check=True)
    assert await service.fitting("boil tea") == [tea]
    await service.stop()


async def test_documents_survive_where_a_broken_shelf_of_playbooks_takes_all_along(tmp_path: Path) -> None:
    class Fragile(InMemoryVectorIndex):
        """Clearing a broken shelf empties everything, as Chroma does where a collection cannot be deleted."""

        async def clear(self, shelf: Shelf) -> None:
            others = await self.shelves() if shelf in self.broken else []
            await super().clear(shelf)
            for other in others:
                await super().clear(other)

    index = Fragile()
    service = Service(tmp_path, index)
    await service.start()
    await service.learn("boil tea")
    await service.tasks.bring_in_step()
    index.broken.add(MIND)
    await service.tasks.bring_in_step(check=True)
    assert (await index.count(MIND), await index.count(DOMAIN)) == (1, 2)
    index.broken.add(DOMAIN)
    await service.ingestion.run()
    assert (await index.count(MIND), await index.count(DOMAIN)) == (1, 2)
    await service.stop()


async def test_in_the_background_it_follows_by_itself_and_comes_back_after_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = InMemoryVectorIndex()
    service = Service(tmp_path, index)
    await service.start()
    await service.learn("before the start")
    await service.tasks.start()

    async def told(count: int) -> None:
        async with asyncio.timeout(10):
            while await index.count(MIND) != count:
                await asyncio.sleep(0.001)

    await told(1)
    index.down = True
    await service.learn("boil tea")
    async with asyncio.timeout(10):
        while "is behind" not in caplog.text:
            await asyncio.sleep(0.001)
    index.down = False
    await told(2)
    await service.learn("feed dog")
    await told(3)
    await service.stop()


async def test_the_index_is_told_rarely_of_what_is_searched_without_it(tmp_path: Path) -> None:
    index = InMemoryVectorIndex()
    service = Service(tmp_path, index, small=2, patience_s=60)

    async def told(count: int) -> None:
        async with asyncio.timeout(10):
            while service.ledger.behind or await index.count(MIND) != count:
                await asyncio.sleep(0.001)

    await service.start()
    await service.learn("boil tea")
    await service.tasks.start()
    await told(1)
    dog = await service.learn("feed dog")
    assert await service.fitting("feed dog") == [dog]
    for _ in range(50):
        await service.vectors.count(MIND)
    assert await index.count(MIND) == 1, "two are searched without it"
    await service.learn("cook rice")
    await told(3)
    await service.stop()


async def test_playbooks_of_another_model_are_embedded_and_the_old_vectors_are_kept(tmp_path: Path) -> None:
    service = Service(tmp_path, InMemoryVectorIndex())
    await service.start()
    tea = await service.learn("boil tea")
    service.embedder.identity = "hashing-2"
    await service.tasks.bring_in_step()
    assert await service.fitting("boil tea") == [tea]
    count = len(service.embedder.embedded)
    service.embedder.identity = "hashing-1"
    await service.tasks.bring_in_step()
    assert await service.fitting("boil tea") == [tea]
    assert len(service.embedder.embedded) == count
    await service.stop()


async def test_without_an_embedder_a_run_is_given_no_playbooks_and_nothing_is_learned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(tmp_path, InMemoryVectorIndex())
    await service.start()
    await service.learn("boil tea")

    async def gone(texts: object) -> None:
        raise EmbeddingUnavailableError("the endpoint is away")

    service.embedder.embed = gone
    assert await service.fitting("another task") == []
    assert "no playbooks are given: the endpoint is away" in caplog.text
    with pytest.raises(UnavailableError):
        await service.learn("another task")
    await service.stop()


@pytest.mark.parametrize("remembered", [10_000, 0])
async def test_what_another_process_learns_is_found_at_once(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    # Also where it is not remembered how the shelf looked.
    monkeypatch.setattr(task_index, "_MOST_STAMPS", remembered)
    ours, theirs = (Service(tmp_path / name, InMemoryVectorIndex(), heart=PostgresHeart(postgres_url)) for name in "ab")
    await ours.start()
    await theirs.start()
    assert await ours.fitting("boil tea") == []
    tea = await theirs.learn("boil tea")
    assert await ours.fitting("boil tea") == [tea]
    await ours.tasks.bring_in_step()
    assert await ours.index.count(MIND) == 1
    await theirs.playbooks.change("", tea, notes="with salt")
    [found] = await ours.playbooks.fitting("", "boil tea", persona="default", limit=3)
    assert found.playbook.notes == "with salt"
    await theirs.playbooks.change("", tea, prompt="cook rice")
    assert (await ours.fitting("boil tea"), await ours.fitting("cook rice")) == ([], [tea])
    await theirs.playbooks.forget("", tea)
    assert await ours.fitting("cook rice") == []
    for service in (ours, theirs):
        await service.stop()


OLD_PLAYBOOKS = """
CREATE TABLE playbooks (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, persona TEXT NOT NULL, prompt TEXT NOT NULL, steps TEXT NOT NULL,
    tool_versions TEXT NOT NULL, cost_usd DOUBLE PRECISION, duration_ms DOUBLE PRECISION NOT NULL,
    wins INTEGER NOT NULL, losses INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, notes TEXT NOT NULL,
    created_at_us BIGINT NOT NULL, updated_at_us BIGINT NOT NULL, last_used_at_us BIGINT, model TEXT NOT NULL,
    vector {blob} NOT NULL
)
"""
OLD_RUNS = """
CREATE TABLE playbook_runs (
    playbook_id TEXT NOT NULL, run_id TEXT NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (playbook_id, run_id)
)
"""
OLD_ROW = """
INSERT INTO playbooks VALUES
    (?, ?, 'default', 'boil tea', '[["kettle", "{{}}", "hot"]]', '{{}}', NULL, 1, 1, 0, 'active', '', '', 1, 1, 1, ?, ?)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_playbooks_of_a_version_that_kept_the_vector_with_each_are_carried_over(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    def heart() -> SqliteHeart | PostgresHeart:
        if database == "sqlite":
            return SqliteHeart(tmp_path / "heart.db")
        return PostgresHeart(request.getfixturevalue("postgres_url"))

    [vector] = await HashingEmbedder().embed(["boil tea"])
    old = heart()
    await old.start()

    def older() -> Script[None]:
        yield Statement("DROP TABLE playbook_vectors")
        yield Statement("DROP TABLE playbooks")
        yield Statement("DROP TABLE playbook_runs")
        yield Statement(OLD_RUNS)
        yield Statement("INSERT INTO playbook_runs VALUES ('p2', 'told before', 'win')")
        yield Statement(OLD_PLAYBOOKS.format(blob={"sqlite": "BLOB", "postgresql": "BYTEA"}[database]))
        for made_id, tenant, model in (("p1", "", "hashing-1"), ("p2", "acme", "hashing-1"), ("p3", "", "another")):
            yield Statement(OLD_ROW.format(), (made_id, tenant, model, vector.tobytes()))

    await old.write(older)
    await old.stop()
    counted: list[list[int]] = []
    for _ in range(2):
        service = Service(tmp_path, InMemoryVectorIndex(), heart=heart())
        await service.start()
        assert await service.fitting("boil tea", tenant="acme") == ["p2"]
        trials = [Trial(run, ["p2"], Outcome.LOSS) for run in ("told before", "r1")]
        counted.append([await service.learning.count_outcome("acme", trial) for trial in trials])
        yesterday = datetime.now(UTC) - timedelta(days=1)
        assert await SqlPlaybookStore(service.heart).forget_runs(before=yesterday, most=99) == 0
        await service.tasks.bring_in_step()
        assert await service.fitting("boil tea") == ["p1", "p3"]
        await service.stop()
    assert counted == [[0, 1], [0, 0]], "a run that was told before is known"
    assert service.embedder.embedded == ["boil tea"], "the query; what was carried over is not made anew"
