"""Sets of questions whose right passages are known."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagi_memory.adapters.folder_knowledge import FolderKnowledge
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.semantic_splitter import SemanticSplitter
from pagi_memory.adapters.wordpiece_tokens import WordPieceTokens
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.model import (
    DEFAULT_PERSONA,
    SEARCHABLE,
    Document,
    KnowledgeBase,
    Passage,
    Piece,
    Shelf,
    SourceText,
)
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.ports import PassageStore, VectorIndex

CHUNK_TOKENS = 254
_AT_ONCE = 64
_LIBRARY = Shelf(DEFAULT_PERSONA, KnowledgeBase.DOMAIN)


class LabelledSetError(Exception):
    """The set cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which shelves, and the worth of each right passage by its id."""

    text: str
    shelves: Sequence[Shelf]
    worth: Mapping[str, float]
    hard: bool = False


async def shipped(folder: Path, store: PassageStore, index: VectorIndex, embedder: OnnxEmbedder) -> list[Question]:
    """The questions on the knowledge bases; the right passages are those of the named file that hold the answer.

    Raises:
        LabelledSetError: A question's answer stands nowhere.
    """
    splitter = SemanticSplitter(WordPieceTokens().count, capacity=CHUNK_TOKENS)
    files = FolderKnowledge(folder, max_bytes=10_000_000)
    await Ingestion(files, splitter, embedder, store, Indexing(store, index), Personas(store)).run(check=False)
    return [await _shipped_question(row, store) for row in _json_lines(folder / "questions.jsonl")]


async def _shipped_question(row: dict[str, Any], store: PassageStore) -> Question:
    found = await store.document(row["source"])
    passages = found[2] if found else []
    answer = _plain(row["answer_contains"])
    right = {passage.id: 1.0 for passage in passages if answer in _plain(passage.piece.text)}
    if not right:
        raise LabelledSetError(f"No passage of {row['source']} holds the answer to {row['question']!r}.")
    shelves = [Shelf(row["persona"] or DEFAULT_PERSONA, base) for base in SEARCHABLE]
    return Question(row["question"], shelves, right, hard=row["hard"])


async def beir(folder: Path, store: PassageStore, index: VectorIndex, embedder: OnnxEmbedder) -> list[Question]:
    """A folder in the form of BEIR: `corpus.jsonl`, `queries.jsonl`, and `qrels.tsv` or `qrels/test.tsv`.

    Each document is one passage, as the published figures take it.
    """
    await store.serve_model(embedder.identity)
    rows: list[tuple[str, str, str]] = [
        (row["_id"], row.get("title", ""), row["text"]) for row in _json_lines(folder / "corpus.jsonl")
    ]
    for begin in range(0, len(rows), _AT_ONCE):
        await _store_rows(rows[begin : begin + _AT_ONCE], store, embedder)
    await Indexing(store, index).bring_in_step()
    worth = _qrels(folder)
    return [
        Question(row["text"], [_LIBRARY], worth[row["_id"]])
        for row in _json_lines(folder / "queries.jsonl")
        if row["_id"] in worth
    ]


async def _store_rows(rows: Sequence[tuple[str, str, str]], store: PassageStore, embedder: OnnxEmbedder) -> None:
    pieces = [Piece(text, (title,) if title else (), 0, 0) for _, title, text in rows]
    vectors = await embedder.embed([piece.embedded_text for piece in pieces])
    for (name, _, text), piece, vector in zip(rows, pieces, vectors, strict=True):
        source = f"{_LIBRARY.knowledge_base.value}/{name}"
        content_hash = hashlib.sha256(text.encode()).hexdigest()
        document = SourceText(_LIBRARY, source, text, content_hash)
        await store.replace(Document(document, content_hash, [Passage(name, _LIBRARY, source, piece)], [vector]))


def _qrels(folder: Path) -> dict[str, dict[str, float]]:
    path = next((folder / name for name in ("qrels.tsv", "qrels/test.tsv") if (folder / name).is_file()), None)
    if path is None:
        raise LabelledSetError(f"{folder} holds neither qrels.tsv nor qrels/test.tsv.")
    worth: defaultdict[str, dict[str, float]] = defaultdict(dict)
    with path.open(encoding="utf-8", newline="") as file:
        for row in list(csv.reader(file, delimiter="\t"))[1:]:
            if float(row[-1]) > 0:
                worth[row[0]][row[-2]] = float(row[-1])
    return dict(worth)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.strip())
    except OSError as error:
        raise LabelledSetError(str(error)) from error


def _plain(text: str) -> str:
    return " ".join(text.split())
