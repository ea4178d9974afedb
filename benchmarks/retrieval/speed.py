"""How quick memory is with many passages: `make bench-memory`, or `python -m benchmarks.retrieval.speed [PASSAGES]`.

The passages are made up: words by Zipf's law, vectors at random. Times of one run are told as ratios too, because they
depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pagi_memory.adapters.chroma_clients import EmbeddedChroma
from pagi_memory.adapters.chroma_index import ChromaIndex
from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.model import DEFAULT_PERSONA, Document, KnowledgeBase, Passage, Piece, Shelf, SourceText
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.recall import Recall
from pagi_memory.domain.serving_model import ServingModel

PER_DOCUMENT = 100
QUERIES = 60
CALLERS = 32
_SHELVES = (Shelf(DEFAULT_PERSONA, KnowledgeBase.DOMAIN), Shelf(DEFAULT_PERSONA, KnowledgeBase.BODY))
_OTHER = Shelf("other", KnowledgeBase.DOMAIN)
_SYLLABLES = [a + b + c for a in "bcdfghklmnprst" for b in "aeiou" for c in ("n", "rd", "st", "mp", "x", "ton", "sel")]


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval.speed", description=__doc__)
    parser.add_argument("passages", nargs="?", type=int, default=20_000, help="how many; 100000 takes two minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pagi-memory-speed-") as folder:
        asyncio.run(_measure(Path(folder), options.passages))
    return 0


async def _measure(folder: Path, passages: int) -> None:
    words = _Words()
    store, chroma, embedder = (
        SqlitePassageStore(folder / "memory.db"),
        ChromaIndex(EmbeddedChroma(folder / "chroma")),
        OnnxEmbedder(),
    )
    for part in (chroma, store, embedder):
        await part.start()
    try:
        index = MatrixIndex(chroma, store)
        began = time.perf_counter()
        await _fill(store, words, passages, embedder.identity)
        await Indexing(store, index).bring_in_step()
        _row("filled", f"{passages} passages in {time.perf_counter() - began:.0f} s, without embedding")
        serving, personas = ServingModel(embedder), Personas(store)
        await personas.refresh()
        recall = Recall(store, index, QueryVectors(serving, size=10_000), serving, personas)
        await _searches(recall, [words.text(8) for _ in range(QUERIES)])
        await _crowd(recall, [words.text(8) for _ in range(CALLERS * 4)])
        await _embedding(embedder)
        _row("memory", f"{_resident_mib():.0f} MiB resident")
    finally:
        for part in (embedder, store, chroma):
            await part.stop()


class _Words:
    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        self._vocabulary = [*_SYLLABLES, *(a + b for a in _SYLLABLES[:150] for b in _SYLLABLES[150:230])]
        weights = 1 / np.arange(1, len(self._vocabulary) + 1)
        self._weights = weights / weights.sum()

    def text(self, count: int) -> str:
        return " ".join(self._rng.choice(self._vocabulary, size=count, p=self._weights))

    def vectors(self, count: int) -> Any:
        rows = self._rng.normal(size=(count, 384)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def _fill(store: SqlitePassageStore, words: _Words, passages: int, model: str) -> None:
    await store.serve_model(model)
    for number in range(passages // PER_DOCUMENT):
        shelf = _OTHER if number % 2 else _SHELVES[number // 2 % 2]
        source = f"{shelf.collection}/{number}.md"
        pieces = [Piece(words.text(80), ("Guide",), 500 * i, i, 120) for i in range(PER_DOCUMENT)]
        found = [Passage(f"{number}-{piece.index}", shelf, source, piece) for piece in pieces]
        text = SourceText(shelf, source, "", str(number))
        await store.replace(Document(text, str(number), found, list(words.vectors(PER_DOCUMENT))))


async def _searches(recall: Recall, queries: Sequence[str]) -> None:
    new = await _p50_ms(recall.search, queries)
    known = min([await _p50_ms(recall.search, queries) for _ in range(2)])
    one = await _p50_ms(lambda query: recall.search(query, knowledge_bases=[KnowledgeBase.BODY]), queries)
    other = await _p50_ms(lambda query: recall.search(query, persona="other"), queries)
    _row("search, new query", f"p50 {new:.1f} ms")
    _row("search, known query", f"p50 {known:.1f} ms")
    _row("search, one knowledge base", f"p50 {one:.1f} ms, {one / known:.2f} of all")
    _row("search, another persona", f"p50 {other:.1f} ms, {other / known:.2f} of the default one")


async def _crowd(recall: Recall, queries: Sequence[str]) -> None:
    waits = []

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - began - 0.001)

    watching = asyncio.create_task(watch())
    for begin in range(0, len(queries), CALLERS):
        await asyncio.gather(*(recall.search(query) for query in queries[begin : begin + CALLERS]))
    watching.cancel()
    waits.sort()
    common, longest = waits[int(len(waits) * 0.95)] * 1e3, waits[-1] * 1e3
    _row(f"{CALLERS} at once", f"the event loop waits {common:.0f} ms (p95), {longest:.0f} ms at most")


async def _embedding(embedder: OnnxEmbedder) -> None:
    texts = [f"how many cups of tea does number {i} drink" for i in range(QUERIES)]
    # The model's own run, on the thread that serves queries, without what is around it.
    bare = []
    for text in texts:
        began = time.perf_counter()
        embedder._run([text])
        bare.append(time.perf_counter() - began)
    around = await _p50_ms(lambda text: embedder.embed([text]), texts)
    bare_ms = statistics.median(bare) * 1e3
    _row("embedding of a query", f"p50 {around:.2f} ms, {around / bare_ms:.2f} of the bare run")
    long = ["word " * 200] * 32
    began = time.perf_counter()
    for begin in range(0, len(long), 4):
        embedder._run(long[begin : begin + 4])
    bare_s = time.perf_counter() - began
    began = time.perf_counter()
    await embedder.embed(long)
    took = time.perf_counter() - began
    _row("embedding of passages", f"{len(long) / took:.0f}/s, {bare_s / took:.2f} times the bare run on one core")


async def _p50_ms(ask: Callable[[str], Awaitable[object]], queries: Sequence[str]) -> float:
    times = []
    for query in queries:
        began = time.perf_counter()
        await ask(query)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _resident_mib() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _row(what: str, figure: str) -> None:
    sys.stdout.write(f"{what:<28} {figure}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
