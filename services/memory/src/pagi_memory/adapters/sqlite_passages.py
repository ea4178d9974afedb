"""Documents, passages, vectors and their words in SQLite: the truth that the vector index is made from."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pagi_memory.adapters import sqlite_passage_schema as sql
from pagi_memory.adapters.kept_rows import KeptRows
from pagi_memory.adapters.reading_places import ReadingPlaces
from pagi_memory.adapters.sqlite_database import SqliteDatabase
from pagi_memory.adapters.sqlite_passage_rows import (
    EPOCH,
    embedded_text_of,
    empty,
    info_of,
    passage_of,
    row_of,
    version_of,
)
from pagi_memory.adapters.sqlite_word_search import WordSearch
from pagi_memory.adapters.vector_rows import best_rows, from_blob, stacked, to_blob
from pagi_memory.domain.clock import utc_now
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.model import (
    Document,
    DocumentInfo,
    Hit,
    KnowledgeBase,
    Narrowing,
    Passage,
    Shelf,
    ShelfStatistics,
)
from pagi_memory.domain.ports import EVERYTHING

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

R = TypeVar("R")

# About 6 MB. The same passages are found again and again.
_MOST_KEPT = 4_096

_INSERT_DOCUMENT = """
INSERT INTO documents (source, persona, knowledge_base, fingerprint, body, metadata, updated_at_us)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (source) DO UPDATE SET persona = excluded.persona, knowledge_base = excluded.knowledge_base,
    fingerprint = excluded.fingerprint, body = excluded.body, metadata = excluded.metadata,
    updated_at_us = excluded.updated_at_us
"""
_INSERT_PASSAGE = """
INSERT INTO passages
    (id, source, persona, knowledge_base, shelf, headings, title, body, char_offset, piece_index, tokens)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_MOVE_PASSAGE = "UPDATE passages SET char_offset = ?, piece_index = ? WHERE id = ?"
# From an index: after each change they are read again, and of 50,000 documents few belong to a Soul.
_PERSONAS = "SELECT DISTINCT persona FROM documents"
_SOULS = "SELECT persona, body FROM documents WHERE knowledge_base = ? ORDER BY persona, source"
_MARK_SHELF = """
INSERT OR REPLACE INTO unindexed (id, persona, knowledge_base)
SELECT id, persona, knowledge_base FROM passages WHERE persona = ? AND knowledge_base = ?
"""


class SqlitePassageStore:
    """`PassageStore` on one file."""

    def __init__(self, path: Path, *, title_weight: float = 1.0, now: Callable[[], datetime] = utc_now) -> None:
        self._path = path
        self._database = SqliteDatabase(path, sql.SCHEMA)
        self._words = WordSearch(title_weight=title_weight)
        self._kept: KeptRows[str, Passage] = KeptRows(_MOST_KEPT)
        self._now = now
        # Of two readers one: what runs search never waits for those who look around.
        self._places = ReadingPlaces(1)

    async def start(self) -> None:
        """Opens the file; one that an older version wrote is emptied, to be filled again from the folders.

        Raises:
            StoreInUseError: Another process has it.
            StoreUnavailableError: The file cannot be opened or is damaged; the text says how to make it anew.
        """
        try:
            await self._database.start(first=self._empty_of_another_version)
        except StoreUnavailableError as error:
            raise StoreUnavailableError(
                f"{error.message}. Stop the service, delete {self._path}, {self._path}-wal and {self._path}-shm, "
                "and start it again: all of it is made anew from the knowledge bases."
            ) from error

    async def stop(self) -> None:
        """Closes the file."""
        await self._database.stop()

    async def fingerprints(self) -> dict[str, str]:
        """See `PassageStore.fingerprints`."""
        return await self._database.read(
            lambda connection: dict(connection.execute("SELECT source, fingerprint FROM documents"))
        )

    async def replace(self, document: Document) -> None:
        """See `PassageStore.replace`. Passages that stay keep their row, and the index hears nothing of them."""
        text = document.source_text
        written = (self._now() - EPOCH) // timedelta(microseconds=1)
        metadata = json.dumps(dict(text.metadata), ensure_ascii=False)
        place = (text.source, text.shelf.persona, text.shelf.knowledge_base.value)
        row = (*place, document.fingerprint, text.text, metadata, written)
        vectors = {p.id: to_blob(v) for p, v in zip(document.passages, document.vectors, strict=True)}

        def put(connection: sqlite3.Connection) -> None:
            known = {row[0] for row in connection.execute("SELECT id FROM passages WHERE source = ?", (text.source,))}
            gone = known - vectors.keys()
            connection.executemany("DELETE FROM passages WHERE id = ?", [(passage_id,) for passage_id in gone])
            connection.execute(_INSERT_DOCUMENT, row)
            new = [passage for passage in document.passages if passage.id not in known]
            connection.executemany(_INSERT_PASSAGE, [row_of(passage) for passage in new])
            moved = [(p.piece.offset, p.piece.index, p.id) for p in document.passages if p.id in known]
            connection.executemany(_MOVE_PASSAGE, moved)
            model = _serving_model(connection)
            connection.executemany(sql.ADD_VECTOR, [(model, vectors[p.id], p.id) for p in document.passages])

        await self._change(put, lambda passage: passage.source == text.source)

    async def remove(self, source: str) -> None:
        """See `PassageStore.remove`."""
        await self._change(lambda connection: _delete(connection, source), lambda passage: passage.source == source)

    async def forget_documents(self) -> None:
        """See `PassageStore.forget_documents`."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM passages")
            connection.execute("DELETE FROM documents")

        await self._change(forget, lambda _: True)

    async def souls(self) -> dict[str, str]:
        """See `PassageStore.souls`."""

        def select(connection: sqlite3.Connection) -> dict[str, str]:
            # A persona without a Soul is one too.
            texts: dict[str, list[str]] = {persona: [] for (persona,) in connection.execute(_PERSONAS)}
            for persona, body in connection.execute(_SOULS, (KnowledgeBase.SOUL.value,)):
                texts.setdefault(persona, []).append(body.strip())
            return {persona: "\n\n".join(bodies) for persona, bodies in texts.items()}

        return await self._database.read(select)

    async def search_words(
        self, words: Sequence[str], shelves: Sequence[Shelf], limit: int, only: Narrowing = EVERYTHING
    ) -> list[Hit]:
        """See `PassageStore.search_words`."""
        if not words or not shelves:
            return []
        if only:
            return await self._look(lambda connection: self._words.narrowed(connection, words, shelves, limit, only))
        return await self._database.read(lambda connection: self._words.best(connection, words, shelves, limit))

    async def nearest(
        self, vector: Vector, shelves: Sequence[Shelf], limit: int, only: Narrowing = EVERYTHING
    ) -> list[Hit]:
        """See `PassageStore.nearest`."""
        condition, values = sql.narrowing_condition(only)
        statement = sql.VECTORS.format(narrowing=condition)

        def select(connection: sqlite3.Connection) -> list[Hit]:
            hits: list[Hit] = []
            for shelf in shelves:
                rows = connection.execute(statement, (shelf.persona, shelf.knowledge_base.value, *values))
                while some := rows.fetchmany(10_000):
                    ids, matrix = stacked(some)
                    hits += best_rows(ids, matrix, vector, limit)
            return sorted(hits, key=lambda hit: -hit.score)[:limit]

        # Without one the index asks, which has lost a shelf: a run waits for it.
        return await (self._look(select) if only else self._database.read(select))

    async def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """See `PassageStore.passages`."""

        async def read(missing: Sequence[str]) -> dict[str, Passage]:
            def select(connection: sqlite3.Connection) -> dict[str, Passage]:
                rows = connection.execute(sql.PASSAGES.format(marks=_marks(missing)), tuple(missing))
                return {row[0]: passage_of(*row) for row in rows}

            return await self._database.read(select)

        return await self._kept.of(ids, read)

    async def documents(
        self, *, after: str = "", limit: int, persona: str = "", bases: Sequence[str] = ()
    ) -> list[DocumentInfo]:
        """See `PassageStore.documents`."""
        condition, values = "source > ?", [after]
        if persona:
            condition, values = f"{condition} AND persona = ?", [*values, persona]
        if bases:
            condition, values = f"{condition} AND knowledge_base IN ({_marks(bases)})", [*values, *bases]
        statement = sql.DOCUMENTS.format(condition=condition)
        return await self._look(
            lambda connection: [info_of(*row) for row in connection.execute(statement, (*values, limit))]
        )

    async def document(self, source: str) -> tuple[DocumentInfo, str, list[Passage]] | None:
        """See `PassageStore.document`."""

        def select(connection: sqlite3.Connection) -> tuple[DocumentInfo, str, list[Passage]] | None:
            statement = sql.DOCUMENTS.format(condition="source = ?")
            # One transaction: the text and the passages of one moment.
            connection.execute("BEGIN")
            try:
                row = connection.execute(statement, (source, 1)).fetchone()
                body = connection.execute("SELECT body FROM documents WHERE source = ?", (source,)).fetchone()
                passages = connection.execute(sql.PASSAGES_OF_SOURCE, (source,)).fetchall()
            finally:
                connection.execute("COMMIT")
            return (info_of(*row), body[0], [passage_of(*found) for found in passages]) if row else None

        return await self._look(select)

    async def statistics(self) -> list[ShelfStatistics]:
        """See `PassageStore.statistics`."""

        def select(connection: sqlite3.Connection) -> list[ShelfStatistics]:
            return [
                ShelfStatistics(Shelf(persona, KnowledgeBase(base)), documents, passages, characters)
                for persona, base, documents, characters, passages in connection.execute(sql.STATISTICS)
            ]

        return await self._look(select)

    async def counts(self) -> dict[Shelf, int]:
        """See `PassageStore.counts`."""

        def select(connection: sqlite3.Connection) -> dict[Shelf, int]:
            rows = connection.execute(
                "SELECT persona, knowledge_base, count(*) FROM passages GROUP BY persona, knowledge_base"
            )
            return {Shelf(persona, KnowledgeBase(base)): count for persona, base, count in rows}

        return await self._database.read(select)

    async def count(self, shelf: Shelf) -> int:
        """See `PassageStore.count`."""
        statement = "SELECT count(*) FROM passages WHERE persona = ? AND knowledge_base = ?"
        place = (shelf.persona, shelf.knowledge_base.value)
        return await self._database.read(lambda connection: int(connection.execute(statement, place).fetchone()[0]))

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """See `PassageStore.unindexed`."""

        def select(connection: sqlite3.Connection) -> dict[Shelf, dict[str, Vector | None]]:
            changes: defaultdict[Shelf, dict[str, Vector | None]] = defaultdict(dict)
            for passage_id, persona, base, blob in connection.execute(sql.UNINDEXED, (limit,)):
                vector = None if blob is None else from_blob(blob)
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

    async def vectors(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        """See `PassageStore.vectors`."""
        statement = sql.VECTORS.format(narrowing="1")
        place = (shelf.persona, shelf.knowledge_base.value)
        return await self._database.read(lambda connection: stacked(connection.execute(statement, place).fetchall()))

    async def vectors_of(self, source: str) -> dict[str, Vector]:
        """See `PassageStore.vectors_of`."""

        def select(connection: sqlite3.Connection) -> dict[str, Vector]:
            rows = connection.execute(sql.VECTORS_OF_SOURCE, (source,))
            return {embedded_text_of(headings, body): from_blob(blob) for headings, body, blob in rows}

        return await self._database.read(select)

    async def serving_model(self) -> str:
        """See `PassageStore.serving_model`."""
        return await self._database.read(_serving_model)

    async def serve_model(self, model: str) -> None:
        """See `PassageStore.serve_model`."""

        def switch(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('model', ?)", (model,))
            connection.execute("DELETE FROM vectors WHERE model != ?", (model,))
            connection.execute("INSERT OR REPLACE INTO unindexed SELECT id, persona, knowledge_base FROM passages")

        await self._database.write(switch)

    async def without_vector(self, model: str, limit: int) -> dict[str, str]:
        """See `PassageStore.without_vector`."""

        def select(connection: sqlite3.Connection) -> dict[str, str]:
            rows = connection.execute(sql.WITHOUT_VECTOR, (model, limit))
            return {passage_id: embedded_text_of(headings, body) for passage_id, headings, body in rows}

        return await self._database.read(select)

    async def add_vectors(self, model: str, vectors: Mapping[str, Vector]) -> None:
        """See `PassageStore.add_vectors`."""
        rows = [(model, to_blob(vector), passage_id) for passage_id, vector in vectors.items()]

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(sql.ADD_VECTOR, rows)

        await self._database.write(insert)

    async def count_vectors(self, model: str) -> int:
        """See `PassageStore.count_vectors`."""

        def select(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT count(*) FROM vectors WHERE model = ?", (model,)).fetchone()[0])

        return await self._database.read(select)

    async def _look(self, query: Callable[[sqlite3.Connection], R]) -> R:
        """For what takes as long as there is much."""
        return await self._places.read(lambda: self._database.read(query))

    def _empty_of_another_version(self) -> None:
        if self._path.exists() and version_of(self._path) not in (0, sql.VERSION):
            empty(self._path)

    async def _change(self, change: Callable[[sqlite3.Connection], None], concerns: Callable[[Passage], bool]) -> None:
        """Changes documents; `concerns`: which passages may be others afterwards."""
        ended = self._kept.change(concerns)

        def after() -> None:
            ended()
            self._words.forget()

        await self._database.write(change, after=after)


def _serving_model(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT value FROM facts WHERE name = 'model'").fetchone()
    return str(row[0]) if row else ""


def _delete(connection: sqlite3.Connection, source: str) -> None:
    connection.execute("DELETE FROM passages WHERE source = ?", (source,))
    connection.execute("DELETE FROM documents WHERE source = ?", (source,))


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)
