"""One suite for every `PassageStore`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.domain.model import Document, KnowledgeBase, Passage, Piece, Shelf
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
