"""Documents, passages, vectors and their words in SQLite: the truth that the vector index is made from."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pagi_memory.adapters.sqlite_database import SqliteDatabase
from pagi_memory.domain.model import Document, Hit, KnowledgeBase, Passage, Piece, Shelf

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

# The words are an FTS5 table over `passages` (external content), kept by triggers, so that no code path can
# forget them. Titles and texts are columns of their own: BM25 can weigh them apart.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    source TEXT PRIMARY KEY,
    persona TEXT NOT NULL,
    knowledge_base TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS passages (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL REFERENCES documents (source),
    persona TEXT NOT NULL,
    knowledge_base TEXT NOT NULL,
    headings TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    char_offset INTEGER NOT NULL,
    piece_index INTEGER NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS passages_by_source ON passages (source);
CREATE INDEX IF NOT EXISTS passages_by_shelf ON passages (persona, knowledge_base);
CREATE TABLE IF NOT EXISTS unindexed (
    id TEXT PRIMARY KEY,
    persona TEXT NOT NULL,
    knowledge_base TEXT NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS passage_words USING fts5(
    title, body, content='passages', content_rowid='number', tokenize='porter unicode61'
);
CREATE TRIGGER IF NOT EXISTS passage_inserted AFTER INSERT ON passages BEGIN
    INSERT INTO passage_words (rowid, title, body) VALUES (new.number, new.title, new.body);
    INSERT OR REPLACE INTO unindexed VALUES (new.id, new.persona, new.knowledge_base);
END;
CREATE TRIGGER IF NOT EXISTS passage_deleted AFTER DELETE ON passages BEGIN
    INSERT INTO passage_words (passage_words, rowid, title, body)
        VALUES ('delete', old.number, old.title, old.body);
    INSERT OR REPLACE INTO unindexed VALUES (old.id, old.persona, old.knowledge_base);
END;
"""

_INSERT_DOCUMENT = "INSERT INTO documents (source, persona, knowledge_base, fingerprint, body) VALUES (?, ?, ?, ?, ?)"
_INSERT_PASSAGE = """
INSERT INTO passages
    (id, source, persona, knowledge_base, headings, title, body, char_offset, piece_index, vector)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SOULS = """
SELECT persona, knowledge_base, CASE knowledge_base WHEN ? THEN body END FROM documents ORDER BY source
"""
_SEARCH_WORDS = """
SELECT passages.id, -bm25(passage_words) FROM passage_words
JOIN passages ON passages.number = passage_words.rowid
WHERE passage_words MATCH ? AND passages.persona = ? AND passages.knowledge_base IN ({marks})
ORDER BY bm25(passage_words) LIMIT ?
"""
_PASSAGES = """
SELECT id, persona, knowledge_base, source, body, headings, char_offset, piece_index FROM passages
WHERE id IN ({marks})
"""
_UNINDEXED = """
SELECT unindexed.id, unindexed.persona, unindexed.knowledge_base, passages.vector
FROM unindexed LEFT JOIN passages ON passages.id = unindexed.id ORDER BY unindexed.id LIMIT ?
"""
_MARK_SHELF = """
INSERT OR REPLACE INTO unindexed (id, persona, knowledge_base)
SELECT id, persona, knowledge_base FROM passages WHERE persona = ? AND knowledge_base = ?
"""


class SqlitePassageStore:
    """`PassageStore` on one file."""

    def __init__(self, path: Path) -> None:
        self._database = SqliteDatabase(path, _SCHEMA)

    async def start(self) -> None:
        """Opens the file."""
        await self._database.start()

    async def stop(self) -> None:
        """Closes the file."""
        await self._database.stop()

    async def fingerprints(self) -> dict[str, str]:
        """See `PassageStore.fingerprints`."""
        return await self._database.read(
            lambda connection: dict(connection.execute("SELECT source, fingerprint FROM documents"))
        )

    async def replace(self, document: Document) -> None:
        """See `PassageStore.replace`."""
        text = document.source_text
        row = (text.source, text.shelf.persona, text.shelf.knowledge_base.value, document.fingerprint, text.text)
        passages = [_row(p, v) for p, v in zip(document.passages, document.vectors, strict=True)]

        def put(connection: sqlite3.Connection) -> None:
            _delete(connection, text.source)
            connection.execute(_INSERT_DOCUMENT, row)
            connection.executemany(_INSERT_PASSAGE, passages)

        await self._database.write(put)

    async def remove(self, source: str) -> None:
        """See `PassageStore.remove`."""
        await self._database.write(lambda connection: _delete(connection, source))

    async def souls(self) -> dict[str, str]:
        """See `PassageStore.souls`."""

        def select(connection: sqlite3.Connection) -> dict[str, str]:
            texts: defaultdict[str, list[str]] = defaultdict(list)
            for persona, knowledge_base, body in connection.execute(_SOULS, (KnowledgeBase.SOUL.value,)):
                # A persona without a Soul is one too.
                texts[persona] += [body.strip()] if knowledge_base == KnowledgeBase.SOUL else []
            return {persona: "\n\n".join(bodies) for persona, bodies in texts.items()}

        return await self._database.read(select)

    async def search_words(self, words: Sequence[str], shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """See `PassageStore.search_words`."""
        bases_by_persona: defaultdict[str, list[str]] = defaultdict(list)
        for shelf in shelves:
            bases_by_persona[shelf.persona].append(shelf.knowledge_base.value)
        if not (expression := _match_expression(words)):
            return []

        def select(connection: sqlite3.Connection) -> list[Hit]:
            hits = []
            for persona, bases in bases_by_persona.items():
                statement = _SEARCH_WORDS.format(marks=_marks(bases))
                hits += [Hit(*row) for row in connection.execute(statement, (expression, persona, *bases, limit))]
            return sorted(hits, key=lambda hit: -hit.score)[:limit]

        return await self._database.read(select)

    async def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """See `PassageStore.passages`."""

        def select(connection: sqlite3.Connection) -> dict[str, Passage]:
            rows = connection.execute(_PASSAGES.format(marks=_marks(ids)), tuple(ids))
            return {row[0]: _passage(*row) for row in rows}

        return await self._database.read(select)

    async def counts(self) -> dict[Shelf, int]:
        """See `PassageStore.counts`."""

        def select(connection: sqlite3.Connection) -> dict[Shelf, int]:
            rows = connection.execute(
                "SELECT persona, knowledge_base, count(*) FROM passages GROUP BY persona, knowledge_base"
            )
            return {Shelf(persona, KnowledgeBase(base)): count for persona, base, count in rows}

        return await self._database.read(select)

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """See `PassageStore.unindexed`."""
        import numpy as np  # the embedder needs it anyway; not at import, to keep that quick

        def select(connection: sqlite3.Connection) -> dict[Shelf, dict[str, Vector | None]]:
            changes: defaultdict[Shelf, dict[str, Vector | None]] = defaultdict(dict)
            for passage_id, persona, base, blob in connection.execute(_UNINDEXED, (limit,)):
                vector = None if blob is None else np.frombuffer(blob, dtype="<f4")
                changes[Shelf(persona, KnowledgeBase(base))][passage_id] = vector
            return dict(changes)

        return await self._database.read(select)

    async def mark_indexed(self, ids: Sequence[str]) -> None:
        """See `PassageStore.mark_indexed`."""
        rows = [(passage_id,) for passage_id in ids]

        def delete(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM unindexed WHERE id = ?", rows)

        await self._database.write(delete)

    async def mark_unindexed(self, shelf: Shelf) -> None:
        """See `PassageStore.mark_unindexed`."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(_MARK_SHELF, (shelf.persona, shelf.knowledge_base.value))

        await self._database.write(insert)


def _delete(connection: sqlite3.Connection, source: str) -> None:
    connection.execute("DELETE FROM passages WHERE source = ?", (source,))
    connection.execute("DELETE FROM documents WHERE source = ?", (source,))


def _row(passage: Passage, vector: Vector) -> tuple[str | int | bytes, ...]:
    piece, shelf = passage.piece, passage.shelf
    headings = json.dumps(piece.headings, ensure_ascii=False)
    place = (piece.offset, piece.index)
    words = (headings, piece.title, piece.text)
    blob = vector.astype("<f4").tobytes()
    return (passage.id, passage.source, shelf.persona, shelf.knowledge_base.value, *words, *place, blob)


def _passage(
    passage_id: str, persona: str, base: str, source: str, body: str, headings: str, offset: int, index: int
) -> Passage:
    piece = Piece(body, tuple(json.loads(headings)), offset, index)
    return Passage(passage_id, Shelf(persona, KnowledgeBase(base)), source, piece)


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _match_expression(words: Sequence[str]) -> str:
    # A quoted string is a term whatever it holds: no operator, no column name, no syntax error. FTS5 ends its
    # expression at a NUL.
    quoted = ['"' + word.replace('"', '""').replace("\0", " ") + '"' for word in words]
    return " OR ".join(quoted)
