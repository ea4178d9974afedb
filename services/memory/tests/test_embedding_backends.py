"""The backends besides the carried one, and a start with another model than the one that filled the store."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pagi_memory.adapters.embedding_backends import EmbeddingStart, embedder_of, embedder_of_identity
from pagi_memory.adapters.endpoint_embedder import EndpointEmbedder
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.torch_embedder import TorchEmbedder
from pagi_memory.domain.errors import EmbeddingUnavailableError, StoreUnavailableError
from pagi_memory.settings import MemorySettings
from pagi_memory.testing import HashingEmbedder

URL = "http://embeddings.test/v1"
Answer = Callable[[httpx.Request], httpx.Response]


def rows(request: httpx.Request) -> httpx.Response:
    texts = json.loads(request.content)["input"]
    data = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(texts)]
    # In any order: the index tells.
    return httpx.Response(200, json={"data": data[::-1]})


async def embed(answer: Answer, texts: list[str]) -> list[np.ndarray]:
    embedder = EndpointEmbedder(f"{URL}/", "small", api_key="secret", transport=httpx.MockTransport(answer))
    await embedder.start()
    try:
        return await embedder.embed(texts)
    finally:
        await embedder.stop()


async def test_an_endpoint_gives_vectors_of_length_one_in_the_order_of_the_texts() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return rows(request)

    texts = ["x" * (i + 1) for i in range(70)]
    vectors = await embed(answer, texts)
    assert [round(float(vector[0] / vector[1])) for vector in vectors] == list(range(1, 71))
    assert all(np.linalg.norm(vector) == pytest.approx(1) for vector in vectors)
    assert [str(request.url) for request in seen] == [f"{URL}/embeddings"] * 2
    assert seen[0].headers["authorization"] == "Bearer secret"
    assert json.loads(seen[0].content)["model"] == "small"


async def test_an_endpoint_that_is_busy_is_asked_again() -> None:
    answers = [httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(503, headers={"retry-after": "0"})]
    vectors = await embed(lambda request: answers.pop() if answers else rows(request), ["a"])
    assert len(vectors) == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(401, text="no such key"),
        lambda _: httpx.Response(200, text="<html>"),
        lambda _: httpx.Response(200, json={"data": []}),
        lambda _: httpx.Response(200, json={"data": [{"index": 0, "embedding": ["x"]}]}),
        lambda _: httpx.Response(200, json={"data": [{"index": 0, "embedding": [float("1e39")]}]}),
        lambda _: httpx.Response(200, json=[]),
    ],
)
async def test_what_an_endpoint_does_wrong_is_told_without_the_key(answer: Answer) -> None:
    with pytest.raises(EmbeddingUnavailableError, match="EMBEDDING_BASE_URL") as caught:
        await embed(answer, ["a"])
    assert "secret" not in caught.value.message


class Encoder:
    def encode(self, sentences: list[str], **options: object) -> list[list[float]]:
        assert options["normalize_embeddings"]
        return [[1.0, float(len(sentence))] for sentence in sentences]


async def test_sentence_transformers_gives_a_vector_for_each_text() -> None:
    embedder = TorchEmbedder("sentence-transformers/all-MiniLM-L6-v2", load=lambda _: Encoder())
    await embedder.start()
    vectors = await embedder.embed(["x" * i for i in range(20)])
    await embedder.stop()
    assert [vector.tolist() for vector in vectors] == [[1.0, float(i)] for i in range(20)]
    assert vectors[0].dtype == np.float32
    # The same weights as the carried ones: neither needs to embed anew what the other did.
    assert embedder.identity == OnnxEmbedder.identity


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is not None, reason="the package is installed, so it is found"
)
async def test_a_missing_package_is_told_with_how_to_get_it() -> None:
    embedder = TorchEmbedder("any")
    with pytest.raises(EmbeddingUnavailableError, match=r"pip install 'pagi-memory\[sentence-transformers\]'"):
        await embedder.start()
    await embedder.stop()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"EMBEDDING_BACKEND": "sentence-transformers", "EMBEDDING_MODEL_NAME": "BAAI/bge-small-en"},
        {"EMBEDDING_BACKEND": "sentence-transformers", "EMBEDDING_MODEL_NAME": "/models/mine@v2"},
        {"EMBEDDING_BACKEND": "openai", "EMBEDDING_MODEL_NAME": "small", "EMBEDDING_BASE_URL": URL},
    ],
)
def test_what_filled_a_store_is_known_by_its_identity(variables: dict[str, str]) -> None:
    settings = MemorySettings(**variables)
    embedder = embedder_of(settings)
    again = embedder_of_identity(embedder.identity, settings)
    assert (type(again), again.identity) == (type(embedder), embedder.identity)


class Running(HashingEmbedder):
    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""


async def test_the_first_model_serves_at_once(mind) -> None:
    models = EmbeddingStart(MemorySettings(), Running("new"), mind.store, mind.serving, mind.reembedding)
    await models.start()
    assert await mind.store.serving_model() == "new"
    await models.stop()


async def test_an_old_model_that_can_be_opened_serves_until_the_new_one_is_there(mind) -> None:
    old = OnnxEmbedder()
    await old.start()
    mind.serving.use(old)
    await mind.store.serve_model(old.identity)
    await mind.ingestion.run()
    await old.stop()
    new = Running("new")
    models = EmbeddingStart(MemorySettings(), new, mind.store, mind.serving, mind.reembedding)
    await models.start()
    assert mind.serving.identity == OnnxEmbedder.identity
    assert (await mind.recall.search("how long does green tea steep"))[0].hit.cosine > 0.3
    assert models._task
    await models._task
    assert (mind.serving.identity, await mind.store.serving_model()) == ("new", "new")
    assert (await mind.recall.search("how long does green tea steep"))[0].passage.source == "Domain-KB/tea.md"
    await models.stop()


async def test_a_change_of_the_model_goes_on_whatever_failed_in_between(mind, monkeypatch, caplog) -> None:
    old = OnnxEmbedder()
    await old.start()
    mind.serving.use(old)
    await mind.store.serve_model(old.identity)
    await mind.ingestion.run()
    await old.stop()
    failures: list[Exception] = [StoreUnavailableError("the disk is full"), RuntimeError("odd")]
    add = mind.store.add_vectors

    async def fails(*vectors: Any) -> None:
        if failures:
            raise failures.pop(0)
        await add(*vectors)

    monkeypatch.setattr(mind.store, "add_vectors", fails)
    models = EmbeddingStart(MemorySettings(), Running("new"), mind.store, mind.serving, mind.reembedding, retry_s=0.01)
    await models.start()
    assert models._task
    await models._task
    assert mind.serving.identity == "new"
    assert "the disk is full; the old model serves" in caplog.text
    assert "RuntimeError: odd" in caplog.text
    await models.stop()


async def test_an_old_model_that_is_gone_means_that_all_is_taken_in_anew(mind, tmp_path: Path) -> None:
    await mind.store.serve_model("vanished@http://127.0.0.1:9/v1")
    await mind.ingestion.run()
    new = Running("new")
    mind.serving.use(new)
    models = EmbeddingStart(MemorySettings(), new, mind.store, mind.serving, mind.reembedding)
    await models.start()
    assert await mind.store.fingerprints() == {}
    assert await mind.store.serving_model() == "new"
    assert (await mind.ingestion.run()).stored == 6
    await models.stop()
