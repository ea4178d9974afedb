"""all-MiniLM-L6-v2 by ONNX Runtime, from weights that the package carries: no network, no torch."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pagi_memory.adapters.query_batches import QueryBatches
from pagi_memory.domain.errors import WeightsError

if TYPE_CHECKING:
    import onnxruntime  # type: ignore[import-untyped]
    from tokenizers import Tokenizer

    from pagi_memory.domain.model import Vector

WEIGHTS = Path(__file__).parent.parent / "weights" / "all-MiniLM-L6-v2"

SHA256 = {
    "model.onnx": "38707940b222e05500fabd8ecf4082386627040d789a173c8e2a4819b7ed5625",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

# The model reads this many tokens, the two special ones included; what is longer is cut.
MAX_TOKENS = 256
# Larger batches are slower on a CPU: more padding, and the matrices leave the cache. Passages of a hundred tokens and
# more are a quarter quicker each by itself; only short texts gain by company.
_BATCH = 4
_BATCH_CHARACTERS = 300


class OnnxEmbedder:
    """`Embedder` with 384 dimensions.

    The weights are quantised (MatMul in blocks of 8 bits, the word table to int8), cosine to the float32 model
    0.9997 in the mean, 0.9987 at least. Queries have a thread of their own and run on one core: a second one does not
    help a short text. Many texts run as batches side by side, one on each core; the one session serves all of them.
    """

    # The model and not this way to run it: others with the same weights give the same vectors.
    identity = "all-MiniLM-L6-v2"

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._weights = weights
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._queries = QueryBatches(self._thread, self._tokens_of, self._run_tokens)
        self._crowd = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="embed-many")
        self._crowds = 0
        self._session: onnxruntime.InferenceSession | None = None
        self._tokenizer: Tokenizer | None = None

    async def start(self) -> None:
        """Loads the model.

        Raises:
            WeightsError: A file is missing or is not the published one.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def stop(self) -> None:
        """Finishes what was asked for and lets the model go."""
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._crowd.shutdown, cancel_futures=True)
        self._session = None

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed`. What is longer than 256 tokens is cut.

        The batches are made of the texts of one call only: vectors differ in their last bits with what they run with,
        and a document that is taken in again must get the same.
        """
        self._crowds += 1
        try:
            return await self._embed(texts)
        finally:
            self._crowds -= 1
            if not self._crowds:
                with contextlib.suppress(RuntimeError):  # the service stops
                    self._crowd.submit(_give_back_memory)

    async def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`. It runs with other queries that wait."""
        return await self._queries.embed(text)

    async def _embed(self, texts: Sequence[str]) -> list[Vector]:
        loop = asyncio.get_running_loop()
        batches = list(batches_of(texts))
        jobs = [loop.run_in_executor(self._crowd, self._run, [texts[i] for i in batch]) for batch in batches]
        try:
            rows = await asyncio.gather(*jobs)
        finally:
            # Whoever asked may have gone: what has not begun need not.
            for job in jobs:
                job.cancel()
        vectors = {
            i: row for batch, found in zip(batches, rows, strict=True) for i, row in zip(batch, found, strict=True)
        }
        return [vectors[i] for i in range(len(texts))]

    def _load(self) -> None:
        # Imported here: 0.1 s of CPU that a process which only reads settings or fails early does not pay.
        import onnxruntime
        from tokenizers import Tokenizer

        for name in SHA256:
            check_published(self._weights / name)
        tokenizer = str(self._weights / "tokenizer.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The arena keeps the memory of the largest batch for ever.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            # By its path: given as bytes, the 24 MB would stay in memory twice.
            str(self._weights / "model.onnx"),
            options,
            providers=["CPUExecutionProvider"],
        )
        self._tokenizer = Tokenizer.from_file(tokenizer)
        # The file says 128, for training; the model was made for 256.
        self._tokenizer.enable_truncation(MAX_TOKENS)
        # The file asks for 128 tokens, always.
        self._tokenizer.no_padding()

    def _tokens_of(self, text: str) -> list[int]:
        assert self._tokenizer, "start() was not called"
        tokens: list[int] = self._tokenizer.encode(text).ids
        return tokens

    def _run(self, texts: list[str]) -> list[Vector]:
        assert self._tokenizer, "start() was not called"
        return self._run_tokens([encoding.ids for encoding in self._tokenizer.encode_batch(texts)])

    def _run_tokens(self, rows: Sequence[list[int]]) -> list[Vector]:
        """The vectors of texts, given by their tokens."""
        import numpy as np

        assert self._session, "start() was not called"
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        [vectors] = self._session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})
        return list(vectors)


def batches_of(texts: Sequence[str]) -> Iterator[list[int]]:
    """Positions of texts that are quickest run together: short ones of like length, so that little is padded."""
    batch: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if batch and (len(batch) == _BATCH or (len(batch) + 1) * len(texts[i]) > _BATCH_CHARACTERS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _give_back_memory() -> None:
    # glibc keeps what the batches used, some 130 MB after 260 passages; others of its kind lack the function.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def check_published(path: Path) -> None:
    """Does nothing where a file of the model is the one that was published.

    Raises:
        WeightsError: It is missing or another.
    """
    sha256 = SHA256[path.name]
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"The embedding model cannot be read: {error}. Install pagi-memory again.") from error
    if found != sha256:
        raise WeightsError(
            f"{path} is not the published file: its sha256 is {found}, expected {sha256}. "
            "It is damaged or was exchanged; install pagi-memory again."
        )
