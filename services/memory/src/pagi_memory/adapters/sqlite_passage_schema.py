"""The tables of documents, passages, vectors and words, and the statements on words and vectors."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence

from pagi_memory.domain.model import Narrowing, Shelf

# Raised with the tables (and at the end of SCHEMA): a file of another version is emptied, because all of it is
# made again from the folders.
VERSION = 2

# The words are an FTS5 table over `passages` (external content), kept by triggers, so that no code path can
# forget them. Titles and texts are columns of their own: BM25 can weigh them apart. The shelf is a word of its own:
# a search for one shelf is an intersection inside FTS5 and not a look at the row of every match, which was half of
# the time. Vectors are apart from the passages: those of two models can be there at once.
SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    source TEXT PRIMARY KEY,
    persona TEXT NOT NULL,
    knowledge_base TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    body TEXT NOT NULL,
    metadata TEXT NOT NULL,
    updated_at_us BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS documents_by_shelf ON documents (knowledge_base, persona, source);
CREATE TABLE IF NOT EXISTS passages (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL REFERENCES documents (source),
    persona TEXT NOT NULL,
    knowledge_base TEXT NOT NULL,
    shelf TEXT NOT NULL,
    headings TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    char_offset INTEGER NOT NULL,
    piece_index INTEGER NOT NULL,
    tokens INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS passages_by_source ON passages (source);
CREATE INDEX IF NOT EXISTS passages_by_shelf ON passages (persona, knowledge_base);
CREATE TABLE IF NOT EXISTS vectors (
    number INTEGER NOT NULL,
    model TEXT NOT NULL,
    vector BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS vectors_of_passages ON vectors (number, model);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT OR IGNORE INTO facts (name, value) VALUES ('model', '');
CREATE TABLE IF NOT EXISTS unindexed (
    id TEXT PRIMARY KEY,
    persona TEXT NOT NULL,
    knowledge_base TEXT NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS passage_words USING fts5(
    shelf, title, body, content='passages', content_rowid='number', tokenize='porter unicode61'
);
CREATE TRIGGER IF NOT EXISTS passage_inserted AFTER INSERT ON passages BEGIN
    INSERT INTO passage_words (rowid, shelf, title, body) VALUES (new.number, new.shelf, new.title, new.body);
    INSERT OR REPLACE INTO unindexed VALUES (new.id, new.persona, new.knowledge_base);
END;
CREATE TRIGGER IF NOT EXISTS passage_deleted AFTER DELETE ON passages BEGIN
    INSERT INTO passage_words (passage_words, rowid, shelf, title, body)
        VALUES ('delete', old.number, old.shelf, old.title, old.body);
    DELETE FROM vectors WHERE number = old.number;
    INSERT OR REPLACE INTO unindexed VALUES (old.id, old.persona, old.knowledge_base);
END;
PRAGMA user_version = 2;
"""

DROP = """
DROP TABLE IF EXISTS passage_words;
DROP TABLE IF EXISTS unindexed;
DROP TABLE IF EXISTS vectors;
DROP TABLE IF EXISTS facts;
DROP TABLE IF EXISTS passages;
DROP TABLE IF EXISTS documents;
"""

_PASSAGE_COLUMNS = """
SELECT passages.id, passages.persona, passages.knowledge_base, passages.source, passages.body, headings, char_offset,
piece_index, tokens, documents.metadata FROM passages JOIN documents ON documents.source = passages.source
"""
PASSAGES = _PASSAGE_COLUMNS + " WHERE id IN ({marks})"
PASSAGES_OF_SOURCE = _PASSAGE_COLUMNS + " WHERE passages.source = ? ORDER BY piece_index"

# By `bm25` and not by `rank`, for which FTS5 prepares a statement of its own each time: a third less time, with 260
# passages as with 30,000.
WORDS = """
SELECT passages.id, -best.score, passages.shelf FROM (
    SELECT rowid AS number, bm25(passage_words, 0.0, {title_weight}, 1.0) AS score FROM passage_words
    WHERE passage_words MATCH ? ORDER BY score LIMIT ?
) AS best JOIN passages ON passages.number = best.number ORDER BY best.score, passages.id
"""
WORDS_NARROWED = """
SELECT passages.id, -bm25(passage_words, 0.0, {title_weight}, 1.0) AS score FROM passage_words
JOIN passages ON passages.number = passage_words.rowid
JOIN documents ON documents.source = passages.source
WHERE passage_words MATCH ? AND {narrowing}
ORDER BY score DESC, passages.id LIMIT ?
"""
VECTORS = """
SELECT passages.id, vectors.vector FROM passages
JOIN vectors ON vectors.number = passages.number AND vectors.model = (SELECT value FROM facts WHERE name = 'model')
JOIN documents ON documents.source = passages.source
WHERE passages.persona = ? AND passages.knowledge_base = ? AND {narrowing}
"""
VECTORS_OF_SOURCE = """
SELECT passages.headings, passages.body, vectors.vector FROM passages
JOIN vectors ON vectors.number = passages.number AND vectors.model = (SELECT value FROM facts WHERE name = 'model')
WHERE passages.source = ?
"""
UNINDEXED = """
SELECT unindexed.id, unindexed.persona, unindexed.knowledge_base, vectors.vector FROM unindexed
LEFT JOIN passages ON passages.id = unindexed.id
LEFT JOIN vectors
    ON vectors.number = passages.number AND vectors.model = (SELECT value FROM facts WHERE name = 'model')
ORDER BY unindexed.id LIMIT ?
"""
WITHOUT_VECTOR = """
SELECT id, headings, body FROM passages
WHERE number NOT IN (SELECT number FROM vectors WHERE model = ?) ORDER BY number LIMIT ?
"""
ADD_VECTOR = """
INSERT OR REPLACE INTO vectors (number, model, vector) SELECT number, ?, ? FROM passages WHERE id = ?
"""
DOCUMENTS = """
SELECT source, persona, knowledge_base, metadata, updated_at_us, length(body),
    (SELECT count(*) FROM passages WHERE passages.source = documents.source)
FROM documents WHERE {condition} ORDER BY source LIMIT ?
"""
STATISTICS = """
SELECT persona, knowledge_base, count(*), sum(length(body)),
    (SELECT count(*) FROM passages WHERE passages.persona = documents.persona
        AND passages.knowledge_base = documents.knowledge_base)
FROM documents GROUP BY persona, knowledge_base ORDER BY persona, knowledge_base
"""


@functools.lru_cache(maxsize=4_096)
def shelf_word(shelf: Shelf) -> str:
    """The word that stands for a shelf: digits only, so that stemming leaves it as it is."""
    return "9" + str(int.from_bytes(hashlib.sha256(shelf.collection.encode()).digest()[:8]))


def match_expression(words: Sequence[str], shelves: Iterable[Shelf] | None) -> str:
    """An FTS5 expression for any of the words on the shelves, or (None) on all; empty where there is nothing to find.

    A quoted string is a term whatever it holds: no operator, no column name, no syntax error. FTS5 ends its
    expression at a NUL.
    """
    quoted = ['"' + word.replace('"', '""').replace("\0", " ") + '"' for word in words]
    anywhere = f"{{title body}} : ({' OR '.join(quoted)})" if quoted else ""
    if shelves is None:
        return anywhere
    places = [f'"{shelf_word(shelf)}"' for shelf in shelves]
    return f"shelf : ({' OR '.join(places)}) AND {anywhere}" if anywhere and places else ""


def narrowing_condition(only: Narrowing) -> tuple[str, list[str]]:
    """A condition on `documents` and its values; always true where nothing is narrowed."""
    conditions, values = ["1"], []
    if only.sources:
        conditions.append("(" + " OR ".join("documents.source GLOB ?" for _ in only.sources) + ")")
        # Only the star is special.
        values += [source.replace("[", "[[]").replace("?", "[?]") for source in only.sources]
    for key, value in sorted(only.metadata.items()):
        conditions.append(
            "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS fact WHERE fact.key = ? AND fact.value = ?)"
        )
        values += [key, value]
    return " AND ".join(conditions), values
