"""One suite for every `VectorIndex`: the fake, Chroma inside the process, a Chroma server."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from pagi_memory.adapters.chroma_clients import ChromaServer, EmbeddedChroma
from pagi_memory.adapters.chroma_index import ChromaIndex
from pagi_memory.domain.errors import IndexInUseError, IndexUnavailableError
from pagi_memory.domain.model import KnowledgeBase, Shelf
from pagi_memory.domain.ports import VectorIndex
from pagi_memory.testing import InMemoryVectorIndex

DOMAIN = Shelf("default", KnowledgeBase.DOMAIN)
BODY = Shelf("default", KnowledgeBase.BODY)
DOG = Shelf("companion-dog", KnowledgeBase.DOMAIN)


def axis(i: int, tilt: float = 0.0) -> np.ndarray:
    vector = np.zeros(384, dtype=np.float32)
    vector[i], vector[383] = 1, tilt
    return vector / np.linalg.norm(vector)


async def test_vectors_of_another_length_take_the_place_of_the_old_ones(tmp_path: Path, chroma_port: int) -> None:
    for source in (EmbeddedChroma(tmp_path / "chroma"), ChromaServer("127.0.0.1", chroma_port)):
        chroma = ChromaIndex(source)
        await chroma.start()
        await chroma.apply(DOMAIN, {"a": axis(0), "b": axis(1)})
        short = np.array([1, 0, 0], dtype=np.float32)
        await chroma.apply(DOMAIN, {"a": short})
        assert await chroma.count(DOMAIN) == 1
        assert [hit.passage_id for hit in await chroma.nearest(short, [DOMAIN], 9)] == ["a"]
        await chroma.clear(DOMAIN)
        await chroma.stop()


@pytest.fixture(params=["fake", "embedded", "server"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex]:
    if request.param == "fake":
        yield InMemoryVectorIndex()
        return
    if request.param == "embedded":
        chroma = ChromaIndex(EmbeddedChroma(tmp_path / "chroma"))
    else:
        chroma = ChromaIndex(ChromaServer("127.0.0.1", request.getfixturevalue("chroma_port")))
    await chroma.start()
    # The server is the same for all tests.
    for shelf in await chroma.shelves():
        await chroma.clear(shelf)
    yield chroma
    for shelf in await chroma.shelves():
        await chroma.clear(shelf)
    await chroma.stop()


async def test_the_nearest_come_first_with_their_cosine(index: VectorIndex) -> None:
    await index.apply(DOMAIN, {"a": axis(0), "b": axis(0, tilt=1.0), "c": axis(1)})
    hits = await index.nearest(axis(0), [DOMAIN], 2)
    assert [(hit.passage_id, pytest.approx(hit.score, abs=1e-4)) for hit in hits] == [("a", 1.0), ("b", 0.70711)]


async def test_shelves_are_searched_apart_and_together(index: VectorIndex) -> None:
    await index.apply(DOMAIN, {"a": axis(0)})
    await index.apply(BODY, {"b": axis(0, tilt=0.1)})
    await index.apply(DOG, {"c": axis(0)})
    assert [hit.passage_id for hit in await index.nearest(axis(0), [DOMAIN, BODY], 9)] == ["a", "b"]
    assert [hit.passage_id for hit in await index.nearest(axis(0), [DOG], 9)] == ["c"]
    assert await index.nearest(axis(0), [Shelf("nobody", KnowledgeBase.MIND)], 9) == []
    assert set(await index.shelves()) == {DOMAIN, BODY, DOG}


async def test_learns_anew_forgets_and_takes_repeats(index: VectorIndex) -> None:
    for _ in range(2):
        await index.apply(DOMAIN, {"a": axis(0), "b": axis(1), "unknown": None})
    await index.apply(DOMAIN, {"a": axis(2)})
    for _ in range(2):
        await index.apply(DOMAIN, {"b": None})
    assert await index.count(DOMAIN) == 1
    [hit] = await index.nearest(axis(2), [DOMAIN], 9)
    assert hit.score == pytest.approx(1, abs=1e-4)


async def test_forgetting_in_a_shelf_that_is_not_there_is_no_error(index: VectorIndex) -> None:
    await index.apply(DOMAIN, {"a": None})
    assert await index.count(DOMAIN) == 0


async def test_a_cleared_shelf_is_empty_and_can_be_filled(index: VectorIndex) -> None:
    await index.apply(DOMAIN, {"a": axis(0)})
    await index.apply(DOG, {"c": axis(0)})
    await index.clear(DOMAIN)
    await index.clear(DOMAIN)
    assert await index.count(DOMAIN) == 0
    assert await index.count(DOG) == 1
    await index.apply(DOMAIN, {"b": axis(0)})
    assert [hit.passage_id for hit in await index.nearest(axis(0), [DOMAIN], 9)] == ["b"]


async def test_embedded_chroma_keeps_its_vectors_over_a_restart(tmp_path: Path) -> None:
    for round_ in range(2):
        index = ChromaIndex(EmbeddedChroma(tmp_path / "chroma"))
        await index.start()
        assert await index.count(DOMAIN) == round_
        await index.apply(DOMAIN, {"a": axis(0)})
        await index.stop()


async def test_a_second_owner_of_the_folder_is_refused(tmp_path: Path) -> None:
    first = ChromaIndex(EmbeddedChroma(tmp_path / "chroma"))
    second = ChromaIndex(EmbeddedChroma(tmp_path / "chroma"))
    await first.start()
    with pytest.raises(IndexInUseError, match="CHROMA_PATH"):
        await second.start()
    await second.stop()
    await first.stop()
    await second.stop()
    third = ChromaIndex(EmbeddedChroma(tmp_path / "chroma"))
    await third.start()
    await third.stop()


@pytest.mark.parametrize("damage", ["database", "vectors", "gone"])
async def test_a_damaged_folder_is_made_anew_and_nothing_else_is_deleted(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "chroma"
    index = ChromaIndex(EmbeddedChroma(path))
    await index.start()
    # More than the 1,000 after which Chroma writes its vector files.
    await index.apply(DOMAIN, {f"p{i}": axis(i % 383, tilt=i / 100) for i in range(1500)})
    await index.apply(DOG, {"c": axis(0)})
    await index.stop()
    (path / "mine.txt").write_text("not Chroma's")
    if damage == "database":
        (path / "chroma.sqlite3").write_bytes(b"rubbish" * 1000)
    files = [file for file in path.glob("*/*") if file.is_file()]
    assert files
    for file in files if damage != "database" else []:
        file.write_bytes(b"rubbish") if damage == "vectors" else file.unlink()
    index = ChromaIndex(EmbeddedChroma(path))
    await index.start()
    if damage != "database":
        assert await index.count(DOMAIN) is None
        await index.clear(DOMAIN)
    assert await index.count(DOMAIN) == 0
    await index.apply(DOMAIN, {"a": axis(0)})
    assert [hit.passage_id for hit in await index.nearest(axis(0), [DOMAIN], 9)] == ["a"]
    await index.stop()
    assert (path / "mine.txt").exists()


async def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    index = ChromaIndex(ChromaServer("127.0.0.1", port))
    with pytest.raises(IndexUnavailableError, match=f"127.0.0.1:{port}.*CHROMA_HOST"):
        await index.start()
    await index.stop()
