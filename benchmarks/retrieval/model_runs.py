"""What embedding and ingestion cost beside the bare runs of the model."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pagi_memory.adapters.chroma_clients import EmbeddedChroma
from pagi_memory.adapters.chroma_index import ChromaIndex
from pagi_memory.adapters.folder_knowledge import FolderKnowledge
from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder, batches_of
from pagi_memory.adapters.semantic_splitter import SemanticSplitter
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.adapters.wordpiece_tokens import WordPieceTokens
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.personas import Personas

from benchmarks.retrieval.made_up import CHUNK_TOKENS

_QUERIES = 80
_COPIES = 3


@dataclass(frozen=True, slots=True)
class Compared:
    """Something of ours beside the bare model: milliseconds of each; ratio of their processor time; cores in use."""

    ours: float
    bare: float
    cpu_ratio: float = 0.0
    cores: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times as long ours takes."""
        return self.ours / self.bare


async def query_ms() -> Compared:
    """The time of embedding a short query, and of the model's own run; in turns.

    Processor time decides: on a busy machine the clock tells how long others had the processor.
    """
    embedder = OnnxEmbedder()
    await embedder.start()
    clock: dict[bool, list[float]] = {True: [], False: []}
    cpu: dict[bool, list[float]] = {True: [], False: []}
    try:
        for number in range(2 * _QUERIES):
            text, is_ours = f"how many cups of tea does number {number // 2} drink", bool(number % 2)
            began, used = time.perf_counter(), time.process_time()
            if is_ours:
                await embedder.embed_query(text)
            else:
                embedder._run([text])
            clock[is_ours].append((time.perf_counter() - began) * 1e3)
            cpu[is_ours].append(time.process_time() - used)
    finally:
        await embedder.stop()
    ours, bare = (statistics.median(clock[is_ours]) for is_ours in (True, False))
    return Compared(ours, bare, statistics.median(cpu[True]) / statistics.median(cpu[False]))


async def ingestion(folder: Path, knowledge_bases: Path) -> Compared:
    """The time of a passage in a whole ingestion of real documents, and in the bare model on every core; in turns."""
    embedder = OnnxEmbedder()
    await embedder.start()
    # The first run is slower.
    await embedder.embed(["a short text"] * 16)
    try:
        taken = [await _compared(folder / f"copy-{number}", knowledge_bases, embedder) for number in range(_COPIES)]
    finally:
        await embedder.stop()
    return sorted(taken, key=lambda each: each.ratio)[_COPIES // 2]


async def _compared(folder: Path, knowledge_bases: Path, embedder: OnnxEmbedder) -> Compared:
    _copy(knowledge_bases, folder / "knowledge_bases")
    store, chroma = SqlitePassageStore(folder / "memory.db"), ChromaIndex(EmbeddedChroma(folder / "chroma"))
    # As in a service that runs: Chroma alone takes half a second to load.
    await chroma.start()
    await store.start()
    try:
        await store.serve_model(embedder.identity)
        files = FolderKnowledge(folder / "knowledge_bases", max_bytes=10_000_000)
        splitter = SemanticSplitter(WordPieceTokens().count, capacity=CHUNK_TOKENS)
        ingestion = Ingestion(
            files, splitter, embedder, store, Indexing(store, MatrixIndex(chroma, store)), Personas(store)
        )
        began, cpu = time.perf_counter(), time.process_time()
        await ingestion.run()
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        texts = list((await store.without_vector("none", 100_000)).values())
    finally:
        await store.stop()
        await chroma.stop()
    bare_cpu = time.process_time()
    bare = await asyncio.to_thread(_bare_s, embedder, texts)
    bare_cpu = time.process_time() - bare_cpu
    return Compared(took * 1e3 / len(texts), bare * 1e3 / len(texts), cpu / bare_cpu, cpu / took)


def _copy(knowledge_bases: Path, target: Path) -> None:
    (target / "Domain-KB").mkdir(parents=True)
    for path in sorted(knowledge_bases.rglob("*.md")):
        if {"Domain-KB", "Body-KB"} & set(path.parts):
            name = "-".join(path.relative_to(knowledge_bases).parts)
            (target / "Domain-KB" / name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")


def _bare_s(embedder: OnnxEmbedder, texts: list[str]) -> float:
    batches = [[texts[i] for i in batch] for batch in batches_of(texts)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        began = time.perf_counter()
        list(threads.map(embedder._run, batches))
        return time.perf_counter() - began
