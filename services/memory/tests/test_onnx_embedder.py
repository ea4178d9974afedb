from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pagi_memory.adapters.onnx_embedder import MAX_TOKENS, WEIGHTS, OnnxEmbedder, batches_of
from pagi_memory.adapters.wordpiece_tokens import WordPieceTokens
from pagi_memory.domain.errors import WeightsError


async def test_vectors_are_of_length_one(embedder: OnnxEmbedder) -> None:
    [vector] = await embedder.embed(["A dog drinks water."])
    assert (vector.shape, vector.dtype) == ((384,), np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert await embedder.embed([]) == []


async def test_vectors_are_those_of_the_float32_model(embedder: OnnxEmbedder) -> None:
    """Among others of texts of a single token, which quantised weights serve worst."""
    # Made by scripts/build_embedder.py --vectors.
    with np.load(Path(__file__).parent / "float32_vectors.npz") as known:
        texts, expected = [str(text) for text in known["texts"]], known["vectors"]
    cosines = (np.array(await embedder.embed(texts)) * expected).sum(axis=1)
    # What another backend of the same model may differ by, so that one index serves both: 0.998.
    assert dict(zip(texts, cosines > 0.9985, strict=True)) == dict.fromkeys(texts, True)
    assert cosines.mean() > 0.9992
    # Together most of them are padded.
    alone = np.array([await embedder.embed_query(text) for text in texts])
    assert (alone * expected).sum(axis=1) == pytest.approx(cosines, abs=1e-5)


async def test_related_texts_are_closer_than_unrelated_ones(embedder: OnnxEmbedder) -> None:
    question, answer, other = await embedder.embed(
        [
            "How often should I walk my dog?",
            "Puppies need three short strolls every day.",
            "The invoice is due within thirty days.",
        ]
    )
    assert question @ answer > question @ other + 0.2


async def test_a_text_alone_and_among_others_has_the_same_vector(embedder: OnnxEmbedder) -> None:
    texts = ["short", "a somewhat longer text about tea", "long " * 200, "", "😀 ünïcödé", "x" * 5000, "short"]
    together = await embedder.embed(texts)
    for text, vector in zip(texts, together, strict=True):
        [alone] = await embedder.embed([text])
        assert alone @ vector > 0.99999


async def test_reads_256_tokens_and_not_the_128_of_the_file(embedder: OnnxEmbedder) -> None:
    words = [f"{word} " for word in ("tea", "dog", "house", "law", "music") for _ in range(50)]
    first_200, with_end = "".join(words[:200]), "".join(words)
    [a, b] = await embedder.embed([first_200, with_end])
    assert WordPieceTokens().count(with_end) == 250
    assert a @ b < 0.999
    [c, d] = await embedder.embed([with_end + "tea " * 4, with_end + "tea " * 4 + "quantum " * 50])
    assert MAX_TOKENS == 256
    assert c @ d > 0.99999


async def test_the_loop_stays_responsive(embedder: OnnxEmbedder) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    await embedder.embed(["word " * 250] * 12)
    took = time.perf_counter() - began
    watching.cancel()
    assert longest < took / 2


class Counting(OnnxEmbedder):
    """Runs no model: notes the batches, and fails where a text says so."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()

    def _run(self, texts: list[str]) -> list[np.ndarray]:
        self.go.wait(30)
        self.batches.append(texts)
        if "fail" in texts:
            raise ValueError("no")
        return [np.array([float(len(text))], dtype=np.float32) for text in texts]


async def test_batches_hold_short_texts_of_like_length_of_one_call() -> None:
    embedder = Counting()
    asked = [[f"{'x' * (10 * i)}{j}" for i in range(1, 9)] for j in range(3)]
    found = await asyncio.gather(*(embedder.embed(texts) for texts in asked))
    assert [[float(vector[0]) for vector in vectors] for vectors in found] == [
        [float(len(text)) for text in texts] for texts in asked
    ]
    # What a document is embedded with does not depend on what else is ingested.
    # At most four, and of the longest in it as many as have 300 characters.
    expected = [texts[begin:end] for texts in asked for begin, end in ((0, 4), (4, 7), (7, 8))]
    assert sorted(embedder.batches) == sorted(expected)
    assert [len(batch) for batch in batches_of(["x" * 900, "x" * 100, "x" * 901, "x" * 2])] == [2, 1, 1]
    assert await embedder.embed([]) == []
    await embedder.stop()


async def test_a_document_of_one_passage_does_not_run_with_queries(embedder: OnnxEmbedder) -> None:
    passage, queries = "what do 7 kettles cost", [f"what do {i} kettles cost" for i in range(6)]
    [alone] = await embedder.embed([passage])
    *vectors, [among] = await asyncio.gather(*map(embedder.embed_query, queries), embedder.embed([passage]))
    assert among.tobytes() == alone.tobytes()
    assert all(np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) for vector in vectors)


async def test_who_goes_takes_only_their_own_texts_along() -> None:
    embedder = Counting()
    embedder.go.clear()
    gone = asyncio.create_task(embedder.embed([f"gone {i}" for i in range(400)]))
    stays = asyncio.create_task(embedder.embed(["stays"] * 5))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    embedder.go.set()
    assert len(await stays) == 5
    assert len(embedder.batches) < 20
    await embedder.stop()


async def test_a_batch_that_fails_is_told_to_those_who_wait_for_it() -> None:
    embedder = Counting()
    fails = asyncio.create_task(embedder.embed(["fail", "fail"]))
    others = asyncio.create_task(embedder.embed(["a longer text"] * 8))
    assert len(await others) == 8
    with pytest.raises(ValueError, match="no"):
        await fails
    assert len(await embedder.embed(["on", "it goes"])) == 2
    await embedder.stop()


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
async def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, name: str) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    with (weights / name).open("ab") as file:
        file.write(b" ")
    embedder = OnnxEmbedder(weights)
    with pytest.raises(WeightsError, match=rf"{name}.*sha256"):
        await embedder.start()
    await embedder.stop()


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(tmp_path)
    with pytest.raises(WeightsError, match=r"model\.onnx"):
        await embedder.start()
    await embedder.stop()


def test_the_licence_travels_with_the_weights() -> None:
    assert "Apache License" in (WEIGHTS / "LICENSE").read_text()
    assert "quantised" in (WEIGHTS / "NOTICE").read_text()
