"""One suite for every `PassageStore`."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pagi_memory.adapters import sqlite_passages, sqlite_word_budget
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.adapters.sqlite_word_budget import WordBudget
from pagi_memory.adapters.sqlite_word_search import WordSearch
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.model import Document, Hit, KnowledgeBase, Narrowing, Passage, Piece, Shelf
from pagi_memory.domain.ports import PassageStore
from pagi_memory.testing import InMemoryPassageStore, source_text

DOMAIN = Shelf("default", KnowledgeBase.DOMAIN)
DOG = Shelf("dog", KnowledgeBase.DOMAIN)


def document(source: str, *bodies: str, fingerprint: str = "f1") -> Document:
    text = source_text(source, "\n\n".join(bodies))
    pieces = [Piece(body, ("Guide", "Part"), i * 10, i) for i, body in enumerate(bodies)]
    passages = [Passage(f"{source}#{p.index}/{p.text}", text.shelf, source, p) for p in pieces]
    vectors = [np.full(4, 0.5 + i, dtype=np.float32) for i in range(len(pieces))]
    return Document(text, fingerprint, passages, vectors)


@pytest.fixture(params=["fake", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PassageStore]:
    if request.param == "fake":
        yield InMemoryPassageStore()
        return
    real = SqlitePassageStore(tmp_path / "memory.db")
    await real.start()
    yield real
    await real.stop()


async def settle(store: PassageStore) -> None:
    for vectors in (await store.unindexed(1000)).values():
        await store.mark_indexed(list(vectors))


async def test_a_document_comes_back_whole(store: PassageStore) -> None:
    tea = document("Domain-KB/tea.md", "Green tea.", 'Black tea: it\'s "strong".')
    await store.replace(tea)
    assert await store.fingerprints() == {"Domain-KB/tea.md": "f1"}
    ids = [passage.id for passage in tea.passages]
    assert await store.passages([*ids, "unknown"]) == {passage.id: passage for passage in tea.passages}
    assert await store.counts() == {DOMAIN: 2}


async def test_a_replaced_document_leaves_nothing_behind(store: PassageStore) -> None:
    await store.replace(document("Domain-KB/tea.md", "Green tea.", "Black tea."))
    await settle(store)
    await store.replace(document("Domain-KB/tea.md", "Black coffee.", fingerprint="f2"))
    assert await store.fingerprints() == {"Domain-KB/tea.md": "f2"}
    assert await store.search_words(["tea"], [DOMAIN], 9) == []
    assert len(await store.search_words(["coffee"], [DOMAIN], 9)) == 1
    changes = (await store.unindexed(9))[DOMAIN]
    assert {name.rpartition("/")[2]: vector is None for name, vector in changes.items()} == {
        "Green tea.": True,
        "Black tea.": True,
        "Black coffee.": False,
    }


async def test_passages_are_always_as_they_are_now(store: PassageStore) -> None:
    before, other = document("Domain-KB/tea.md", "Green tea."), document("Domain-KB/dogs.md", "A dog.")
    [tea], [dog] = before.passages, other.passages
    await store.replace(before)
    await store.replace(other)

    async def now() -> dict[str, Passage]:
        return await store.passages([tea.id, dog.id])

    assert await now() == await now() == {tea.id: tea, dog.id: dog}
    moved = replace(tea, piece=replace(tea.piece, offset=7, index=1), metadata={"author": "Ann"})
    text = replace(before.source_text, metadata={"author": "Ann"})
    await store.replace(replace(before, source_text=text, passages=[moved]))
    assert await now() == {tea.id: moved, dog.id: dog}
    await store.remove(tea.source)
    assert await now() == {dog.id: dog}
    await store.forget_documents()
    assert await now() == {}


async def test_a_removed_document_is_gone_and_removing_it_again_is_no_error(store: PassageStore) -> None:
    await store.replace(document("Domain-KB/tea.md", "Green tea."))
    for _ in range(2):
        await store.remove("Domain-KB/tea.md")
        assert await store.fingerprints() == {}
        assert await store.counts() == {}
        assert await store.search_words(["tea"], [DOMAIN], 9) == []


async def test_words_are_searched_in_the_shelves_given_best_first(store: PassageStore) -> None:
    await store.replace(document("Domain-KB/a.md", "tea tea tea", "tea and milk and sugar and more of it"))
    await store.replace(document("personas/dog/Domain-KB/b.md", "tea for dogs"))
    hits = await store.search_words(["tea"], [DOMAIN], 9)
    assert [hit.passage_id.rpartition("/")[2][:5] for hit in hits] == ["tea t", "tea a"]
    assert hits[0].score > hits[1].score > 0
    assert len(await store.search_words(["tea"], [DOMAIN], 1)) == 1
    assert len(await store.search_words(["tea", "dogs"], [DOG], 9)) == 1
    assert await store.search_words(["tea"], [Shelf("dog", KnowledgeBase.BODY)], 9) == []
    assert await store.search_words(["tea"], [], 9) == []
    assert await store.search_words([], [DOMAIN], 9) == []


async def test_headings_are_searched_too(store: PassageStore) -> None:
    await store.replace(document("Domain-KB/a.md", "nothing to see"))
    assert len(await store.search_words(["guide"], [DOMAIN], 9)) == 1


async def test_souls_are_whole_and_personas_without_one_are_known(store: PassageStore) -> None:
    await store.replace(Document(source_text("Soul-KB/b.md", " Second. "), "f"))
    await store.replace(Document(source_text("Soul-KB/a.md", "First."), "f"))
    await store.replace(document("personas/dog/Domain-KB/b.md", "tea"))
    assert await store.souls() == {"default": "First.\n\nSecond.", "dog": ""}


async def test_souls_are_found_without_a_look_at_other_documents(tmp_path: Path) -> None:
    store = SqlitePassageStore(tmp_path / "memory.db")
    await store.start()
    statements = (sqlite_passages._PERSONAS, sqlite_passages._SOULS.replace("?", "'Soul-KB'"))
    for statement in statements:
        plan = await store._database.read(lambda c, s=statement: c.execute(f"EXPLAIN QUERY PLAN {s}").fetchall())
        assert "documents_by_shelf" in plan[0][-1]
    await store.stop()


async def test_changes_are_told_until_the_index_has_them(store: PassageStore) -> None:
    await store.replace(document("Domain-KB/a.md", "one", "two", "three"))
    assert len((await store.unindexed(2))[DOMAIN]) == 2
    changes = (await store.unindexed(9))[DOMAIN]
    assert len(changes) == 3
    vector = changes["Domain-KB/a.md#1/two"]
    assert vector is not None
    assert vector.tolist() == [1.5] * 4
    await store.mark_indexed(list(changes))
    assert await store.unindexed(9) == {}
    await store.mark_unindexed(DOMAIN)
    assert len((await store.unindexed(9))[DOMAIN]) == 3


@given(word=st.text(min_size=1, max_size=30))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_word_breaks_the_search(store: PassageStore, word: str) -> None:
    word = word.encode("utf-8", "replace").decode()
    await store.search_words([word, 'x" OR title:', "NEAR(", "*", "-", "^"], [DOMAIN], 3)


async def test_a_replacement_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    store = SqlitePassageStore(tmp_path / "memory.db")
    await store.start()
    await store.replace(document("Domain-KB/a.md", "old"))
    await settle(store)
    taken = document("Domain-KB/b.md", "other")
    await store.replace(taken)
    bad = document("Domain-KB/a.md", "new", fingerprint="f2")
    # The second passage has an id that another document holds.
    bad.passages.append(taken.passages[0])
    bad.vectors.append(bad.vectors[0])
    with pytest.raises(Exception, match="UNIQUE"):
        await store.replace(bad)
    assert (await store.fingerprints())["Domain-KB/a.md"] == "f1"
    assert len(await store.search_words(["old"], [DOMAIN], 9)) == 1
    assert await store.search_words(["new"], [DOMAIN], 9) == []
    await store.stop()


async def test_of_many_occurrences_the_rare_words_decide(tmp_path: Path) -> None:
    store = SqlitePassageStore(tmp_path / "memory.db")
    store._words = WordSearch(budget=WordBudget(postings=5))
    await store.start()
    bodies = [f"common words number{i}" for i in range(9)]
    await store.replace(document("Domain-KB/a.md", *bodies, "common rare"))
    await store.replace(document("personas/dog/Domain-KB/b.md", "common dog"))
    assert [hit.passage_id[-4:] for hit in await store.search_words(["common", "rare"], [DOMAIN], 99)] == ["rare"]
    # Where all words are common the rarest is looked up all the same, and a small shelf is searched for every word.
    assert len(await store.search_words(["common"], [DOMAIN], 99)) == 10
    assert len(await store.search_words(["rare", "common", "dog"], [DOG], 99)) == 1
    await store.remove("Domain-KB/a.md")
    await store.replace(document("Domain-KB/c.md", "rare", "common"))
    assert len(await store.search_words(["common", "rare"], [DOMAIN], 99)) == 2
    await store.stop()


async def test_how_often_words_occur_is_not_remembered_without_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sqlite_word_budget, "MOST_REMEMBERED", 50)
    budget = WordBudget(postings=1)
    store = SqlitePassageStore(tmp_path / "memory.db")
    store._words = WordSearch(budget=budget)
    await store.start()
    await store.replace(document("Domain-KB/a.md", "common rare", "common"))
    for i in range(60):
        words = ["common", "rare", f"number{i}", f"{i}" * 1_000]
        assert len(await store.search_words(words, [DOMAIN], 9)) == 1
        assert len(budget._counted.frequencies) <= 50
        assert max(map(len, budget._counted.frequencies)) < 99
    await store.stop()


async def test_a_run_does_not_wait_for_those_who_search_among_some_documents(tmp_path: Path) -> None:
    store = SqlitePassageStore(tmp_path / "memory.db")
    go_on = threading.Event()

    class Slow(WordSearch):
        def narrowed(self, *_: object) -> list[Hit]:
            assert go_on.wait(5)
            return []

    store._words = Slow()
    await store.start()
    await store.replace(document("Domain-KB/a.md", "green tea"))
    only = Narrowing(("Domain-KB/*",))
    searches = [asyncio.create_task(store.search_words(["tea"], [DOMAIN], 9, only)) for _ in range(4)]
    await asyncio.sleep(0.01)
    # Its thread reads on.
    searches.pop(0).cancel()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(3):
        assert len(await store.search_words(["tea"], [DOMAIN], 9)) == 1
    go_on.set()
    assert await asyncio.gather(*searches) == [[]] * 3
    await store.stop()


async def test_what_is_counted_over_a_change_is_not_remembered(tmp_path: Path) -> None:
    store = SqlitePassageStore(tmp_path / "memory.db")
    await store.start()
    budget = WordBudget(postings=1)
    await store.replace(document("Domain-KB/a.md", "common rare"))

    class ChangesMeanwhile:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection

        def execute(self, *statement: Any) -> sqlite3.Cursor:
            found = self.connection.execute(*statement)
            budget.forget()
            return found

    assert await store._database.read(lambda c: budget.share(ChangesMeanwhile(c), [DOMAIN])) == 1
    await store.replace(document("personas/dog/Domain-KB/b.md", "common dog"))
    assert await store._database.read(lambda c: budget.share(c, [DOMAIN])) == 0.5
    await store.stop()


async def test_the_best_of_a_shelf_are_the_same_however_much_of_all_it_holds(tmp_path: Path) -> None:
    store = SqlitePassageStore(tmp_path / "memory.db")
    await store.start()
    body, small = Shelf("default", KnowledgeBase.BODY), Shelf("dog", KnowledgeBase.DOMAIN)
    # The other shelves hold the better answers, so that what is left out afterwards is not few.
    await store.replace(document("Domain-KB/a.md", *(f"tea {'tea ' * (i % 5)} number{i}" for i in range(60))))
    await store.replace(document("Body-KB/b.md", *(f"a longer text about tea of kind{i}" for i in range(60))))
    await store.replace(document("personas/dog/Domain-KB/c.md", *(f"tea bone{i}" for i in range(9))))
    for shelves in ([DOMAIN], [body], [small], [DOMAIN, body], [DOMAIN, body, small], []):
        for limit in (1, 5, 50, 200):
            found = await store.search_words(["tea"], shelves, limit)
            every = await store.search_words(["tea"], shelves, 200)
            assert [hit.score for hit in found] == [hit.score for hit in every[:limit]]
            here = {s.collection for s in shelves}
            assert len(found) == min(limit, sum(60 if s != small else 9 for s in shelves))
            passages = await store.passages([hit.passage_id for hit in found])
            assert {p.shelf.collection for p in passages.values()} <= here
    await store.stop()


async def test_a_passage_that_only_moved_stays_the_same_for_the_index(store: PassageStore) -> None:
    await store.replace(document("Domain-KB/a.md", "one", "two"))
    await settle(store)
    moved = document("Domain-KB/a.md", "one", "two", fingerprint="f2")
    pieces = [
        replace(p, piece=replace(p.piece, offset=p.piece.offset + 100, index=p.piece.index + 1)) for p in moved.passages
    ]
    await store.replace(replace(moved, passages=pieces))
    assert await store.unindexed(9) == {}
    found = await store.document("Domain-KB/a.md")
    assert found is not None
    assert [(p.piece.text, p.piece.offset, p.piece.index) for p in found[2]] == [("one", 100, 1), ("two", 110, 2)]


async def test_a_search_is_narrowed_to_sources_and_metadata(store: PassageStore) -> None:
    for source, facts in (("Domain-KB/a[1].md", {"kind": "x"}), ("Domain-KB/sub/b.md", {"kind": "x", "by": "Ann"})):
        one = document(source, "tea one", "tea two")
        text = source_text(source, "tea", facts)
        passages = [replace(p, metadata=facts) for p in one.passages]
        await store.replace(replace(one, source_text=text, passages=passages))
    query = np.full(4, 0.5, dtype=np.float32)

    async def sources(only: Narrowing) -> set[str]:
        lexical = {hit.passage_id.partition("#")[0] for hit in await store.search_words(["tea"], [DOMAIN], 9, only)}
        dense = {hit.passage_id.partition("#")[0] for hit in await store.nearest(query, [DOMAIN], 9, only)}
        assert lexical == dense
        return lexical

    everything = {"Domain-KB/a[1].md", "Domain-KB/sub/b.md"}
    assert await sources(Narrowing()) == everything
    assert await sources(Narrowing(("Domain-KB/*",))) == everything
    assert await sources(Narrowing(("Domain-KB/a[1].md", "none"))) == {"Domain-KB/a[1].md"}
    assert await sources(Narrowing(("Domain-KB/a?1].md",))) == set()
    assert await sources(Narrowing(metadata={"kind": "x"})) == everything
    assert await sources(Narrowing(("*b.md",), {"kind": "x", "by": "Ann"})) == {"Domain-KB/sub/b.md"}
    assert await sources(Narrowing(metadata={"kind": "y"})) == set()
    passage = next(iter((await store.passages([(await store.nearest(query, [DOMAIN], 1))[0].passage_id])).values()))
    assert passage.metadata["kind"] == "x"


async def test_vectors_of_two_models_live_side_by_side(store: PassageStore) -> None:
    assert await store.serving_model() == ""
    await store.serve_model("old")
    await store.replace(document("Domain-KB/a.md", "one", "two"))
    await settle(store)
    missing = await store.without_vector("new", 9)
    assert sorted(missing.values()) == ["Guide > Part\none", "Guide > Part\ntwo"]
    assert len(await store.without_vector("new", 1)) == 1
    new = np.array([9, 9], dtype=np.float32)
    await store.add_vectors("new", dict.fromkeys(missing, new) | {"gone": new})
    assert (await store.count_vectors("new"), await store.without_vector("new", 9)) == (2, {})
    assert (await store.vectors(DOMAIN))[1].shape == (2, 4)
    assert (await store.vectors_of("Domain-KB/a.md"))["Guide > Part\ntwo"].tolist() == [1.5] * 4
    await store.serve_model("new")
    assert (await store.vectors(DOMAIN))[1].shape == (2, 2)
    assert (await store.count_vectors("old"), await store.serving_model()) == (0, "new")
    assert all(vector is not None and len(vector) == 2 for vector in (await store.unindexed(9))[DOMAIN].values())
    await store.forget_documents()
    assert (await store.fingerprints(), await store.counts(), await store.count_vectors("new")) == ({}, {}, 0)


async def test_documents_are_listed_in_pages_with_what_they_hold(store: PassageStore) -> None:
    await store.replace(document("Domain-KB/a.md", "one", "two"))
    await store.replace(document("personas/dog/Domain-KB/b.md", "three"))
    await store.replace(Document(source_text("Soul-KB/me.md", "I am.", {"by": "Ann"}), "f"))
    listed = await store.documents(limit=9, persona="", bases=[])
    assert [(info.source, info.passages, info.characters) for info in listed] == [
        ("Domain-KB/a.md", 2, 8),
        ("Soul-KB/me.md", 0, 5),
        ("personas/dog/Domain-KB/b.md", 1, 5),
    ]
    assert listed[1].metadata == {"by": "Ann"}
    assert [i.source for i in await store.documents(after="Domain-KB/a.md", limit=1, persona="", bases=[])] == [
        "Soul-KB/me.md"
    ]
    assert [i.source for i in await store.documents(limit=9, persona="dog", bases=["Domain-KB"])] == [
        "personas/dog/Domain-KB/b.md"
    ]
    found = await store.document("Domain-KB/a.md")
    assert found is not None
    assert (found[0], found[1], [p.piece.text for p in found[2]]) == (listed[0], "one\n\ntwo", ["one", "two"])
    assert await store.document("none") is None
    assert [(s.shelf.collection, s.documents, s.passages, s.characters) for s in await store.statistics()] == [
        ("Domain-KB", 1, 2, 8),
        ("Soul-KB", 1, 0, 5),
        ("dog.Domain-KB", 1, 1, 5),
    ]


async def test_a_file_of_an_older_version_is_emptied_and_filled_again(tmp_path: Path, caplog) -> None:
    connection = sqlite3.connect(tmp_path / "memory.db")
    connection.execute("CREATE TABLE documents (source TEXT PRIMARY KEY, body TEXT)")
    connection.execute("CREATE TABLE passages (number INTEGER PRIMARY KEY, id TEXT, vector BLOB)")
    connection.close()
    store = SqlitePassageStore(tmp_path / "memory.db")
    await store.start()
    assert "another version" in caplog.text
    await store.replace(document("Domain-KB/a.md", "one"))
    await store.stop()
    caplog.clear()
    store = SqlitePassageStore(tmp_path / "memory.db")
    await store.start()
    assert caplog.text == ""
    assert len(await store.fingerprints()) == 1
    await store.stop()


async def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "memory.db").write_bytes(b"rubbish" * 5_000)
    store = SqlitePassageStore(tmp_path / "memory.db")
    with pytest.raises(StoreUnavailableError, match=r"delete .*memory\.db-wal.* from the knowledge bases"):
        await store.start()
    await store.stop()
