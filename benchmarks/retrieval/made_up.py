"""Many passages that say nothing: words by Zipf's law, vectors at random, in files and in the stores made from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pagi_memory.adapters.chroma_clients import EmbeddedChroma
from pagi_memory.adapters.chroma_index import ChromaIndex
from pagi_memory.adapters.folder_knowledge import FolderKnowledge
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.semantic_splitter import SemanticSplitter
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.adapters.wordpiece_tokens import WordPieceTokens
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.model import Piece
from pagi_memory.domain.personas import Personas

CHUNK_TOKENS = 254
OTHER = "other"
_PER_DOCUMENT = 100
# Fewest and most.
_WORDS_A_PASSAGE = (40, 120)
_DIMENSIONS = 384
_SYLLABLES = [a + b + c for a in "bcdfghklmnprst" for b in "aeiou" for c in ("n", "rd", "st", "mp", "x", "ton", "sel")]


class Words:
    """Texts and vectors, the same in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._vocabulary = [*_SYLLABLES, *(a + b for a in _SYLLABLES[:150] for b in _SYLLABLES[150:230])]
        weights = 1 / np.arange(1, len(self._vocabulary) + 1)
        self._weights = weights / weights.sum()

    def text(self, count: int) -> str:
        """So many words."""
        return self.texts(1, count)[0]

    def texts(self, count: int, words: int) -> list[str]:
        """So many texts of so many words each."""
        return self.uneven_texts(count, words, words)

    def uneven_texts(self, count: int, least: int, most: int) -> list[str]:
        """So many texts; of texts of one length BM25 would rank a thousand alike, which no real ones do."""
        numbers = self._rng.choice(len(self._vocabulary), size=(count, most), p=self._weights).tolist()
        sizes = self._rng.integers(least, most, size=count, endpoint=True)
        return [
            " ".join([self._vocabulary[number] for number in row[:size]])
            for row, size in zip(numbers, sizes, strict=True)
        ]

    def vectors(self, count: int) -> Any:
        """So many vectors of length 1."""
        rows = self._rng.normal(size=(count, _DIMENSIONS)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class _RandomEmbedder:
    """Stands for the carried model, whose 100,000 runs would take half an hour."""

    identity = OnnxEmbedder.identity

    def __init__(self, words: Words) -> None:
        self._words = words

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        return list(self._words.vectors(len(texts)))


class _Paragraphs:
    """Cuts as the service would, as far as the service can tell: the files are made that way."""

    identity = SemanticSplitter(WordPieceTokens().count, capacity=CHUNK_TOKENS).identity

    def split(self, source: str, text: str) -> list[Piece]:
        title, *paragraphs = text.split("\n\n")
        offset, pieces = len(title) + 2, []
        for index, paragraph in enumerate(paragraphs):
            pieces.append(Piece(paragraph, (title.removeprefix("# "),), offset, index, 160))
            offset += len(paragraph) + 2
        return pieces


async def fill(folder: Path, passages: int) -> None:
    """Makes `knowledge_bases` and `data` in a folder, as a service would have left them.

    The default persona has the passages, three of five in Domain-KB and the others in Body-KB; another one has a
    tenth as many more.
    """
    words = Words()
    base = folder / "knowledge_bases"
    for place, share in (("Domain-KB", 6), ("Body-KB", 4), (f"personas/{OTHER}/Domain-KB", 1)):
        (base / place).mkdir(parents=True)
        for number in range(max(1, passages * share // 10 // _PER_DOCUMENT)):
            text = "\n\n".join([f"# Guide {number}", *words.uneven_texts(_PER_DOCUMENT, *_WORDS_A_PASSAGE)])
            (base / place / f"guide-{number:04}.md").write_text(text, encoding="utf-8")
    (base / "Soul-KB").mkdir()
    (base / "Soul-KB" / "persona.md").write_text("I am the one who is measured. " * 30, encoding="utf-8")
    store, chroma = SqlitePassageStore(folder / "data/memory.db"), ChromaIndex(EmbeddedChroma(folder / "data/chroma"))
    await chroma.start()
    await store.start()
    try:
        await store.serve_model(_RandomEmbedder.identity)
        files = FolderKnowledge(base, max_bytes=10_000_000)
        indexing, personas = Indexing(store, chroma), Personas(store)
        await Ingestion(files, _Paragraphs(), _RandomEmbedder(words), store, indexing, personas).run()
    finally:
        await store.stop()
        await chroma.stop()
