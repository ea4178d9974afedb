"""Embeddings by sentence-transformers, with any model that it can load. An extra: it brings torch, 1.5 GB."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from pagi_memory.domain.errors import EmbeddingUnavailableError

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

_PREFIX = "sentence-transformers/"
_BATCH = 8


class Encoder(Protocol):
    """What is used of a `SentenceTransformer`."""

    def encode(self, sentences: list[str], **options: Any) -> Any:
        """One row for each text."""


class TorchEmbedder:
    """`Embedder` in one thread of torch: with more of them a query waits for its turn ten times as long."""

    def __init__(self, model: str, *, load: Callable[[str], Encoder] | None = None) -> None:
        self._model = model
        self._load = load or _load
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="torch")
        self._encoder: Encoder | None = None
        # Without the publisher: it is the same model that the onnx backend carries.
        self.identity = model.removeprefix(_PREFIX)

    async def start(self) -> None:
        """Loads the model, which may download it.

        Raises:
            EmbeddingUnavailableError: The package is not installed, or the model cannot be loaded.
        """
        self._encoder = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, self._model)

    async def stop(self) -> None:
        """Finishes what was asked for and lets the model go."""
        await asyncio.to_thread(self._thread.shutdown)
        self._encoder = None

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed`. What is longer than the model reads is cut."""
        loop = asyncio.get_running_loop()
        vectors: list[Vector] = []
        for begin in range(0, len(texts), _BATCH):
            # One batch a job, so that a query gets its turn while a long document is embedded.
            batch = list(texts[begin : begin + _BATCH])
            vectors += await loop.run_in_executor(self._thread, self._encode, batch)
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`."""
        [vector] = await self.embed([text])
        return vector

    def _encode(self, texts: list[str]) -> list[Vector]:
        import numpy as np

        assert self._encoder, "start() was not called"
        matrix: Matrix = np.asarray(
            self._encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
        )
        return list(matrix)


def _load(model: str) -> Encoder:
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
        from sentence_transformers import (  # type: ignore[import-not-found, unused-ignore]
            SentenceTransformer,
        )
    except ImportError as error:
        raise EmbeddingUnavailableError(
            "EMBEDDING_BACKEND=sentence-transformers needs its package: "
            "pip install 'pagi-memory[sentence-transformers]'"
        ) from error
    torch.set_num_threads(1)
    try:
        encoder: Encoder = SentenceTransformer(model, device="cpu")
    except Exception as error:
        raise EmbeddingUnavailableError(f"The embedding model {model} cannot be loaded: {error}") from error
    return encoder
