"""Documents and passages as rows of SQLite, and the versions of their tables."""

from __future__ import annotations

import json
import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pagi_memory.adapters import sqlite_passage_schema as sql
from pagi_memory.domain.model import DocumentInfo, KnowledgeBase, Passage, Piece, Shelf

log = logging.getLogger(__name__)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def version_of(path: Path) -> int:
    """The version of the tables in a file; 0 where there are none, or it cannot be read."""
    try:
        connection = sqlite3.connect(path)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'documents'").fetchone():
                return 0
            return int(connection.execute("PRAGMA user_version").fetchone()[0]) or 1
        finally:
            connection.close()
    except sqlite3.Error:
        # Start says what is wrong with it.
        return 0


def empty(path: Path) -> None:
    """Deletes the tables of another version."""
    log.warning("%s was written by another version: it is emptied and filled again from the folders", path)
    connection = sqlite3.connect(path)
    try:
        connection.executescript(sql.DROP)
    finally:
        connection.close()


def row_of(passage: Passage) -> tuple[str | int, ...]:
    """The columns of a new passage."""
    piece, shelf = passage.piece, passage.shelf
    headings = json.dumps(piece.headings, ensure_ascii=False)
    place = (passage.source, shelf.persona, shelf.knowledge_base.value, sql.shelf_word(shelf))
    return (passage.id, *place, headings, piece.title, piece.text, piece.offset, piece.index, piece.tokens)


def passage_of(
    passage_id: str,
    persona: str,
    base: str,
    source: str,
    body: str,
    headings: str,
    offset: int,
    index: int,
    tokens: int,
    metadata: str,
) -> Passage:
    """A passage from its columns."""
    piece = Piece(body, tuple(json.loads(headings)), offset, index, tokens)
    return Passage(passage_id, Shelf(persona, KnowledgeBase(base)), source, piece, json.loads(metadata))


def info_of(
    source: str, persona: str, base: str, metadata: str, updated_at_us: int, characters: int, passages: int
) -> DocumentInfo:
    """What a list tells, from the columns of a document."""
    updated_at = EPOCH + timedelta(microseconds=updated_at_us)
    return DocumentInfo(
        source, Shelf(persona, KnowledgeBase(base)), passages, characters, json.loads(metadata), updated_at
    )


def embedded_text_of(headings: str, body: str) -> str:
    """What the embedder reads of a passage."""
    return Piece(body, tuple(json.loads(headings)), 0, 0).embedded_text
