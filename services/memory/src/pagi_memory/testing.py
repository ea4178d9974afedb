"""Fakes of every port, for tests of this service and of those that call it. They pass the tests of the real ones."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pagi_memory.domain.errors import IndexUnavailableError
from pagi_memory.domain.model import (
    DEFAULT_PERSONA,
    Document,
    Found,
    Hit,
    KnowledgeBase,
    Passage,
    Piece,
    SessionKey,
    Shelf,
    SourceText,
    Turn,
)

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

_DIMENSIONS = 64


class HashingEmbedder:
    """`Embedder` without a model: texts that share words are close."""

    def __init__(self, identity: str = "hashing-1") -> None:
        self.identity = identity
        # Every text that was embedded, in order.
        self.embedded: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector for each text."""
        self.embedded += texts
        return [_hashed(text) for text in texts]


def _hashed(text: str) -> Vector:
    import numpy as np

    vector = np.zeros(_DIMENSIONS, dtype=np.float32)
    # A direction that all share: a text without words has a vector too.
    vector[0] = 0.1
    for word in re.findall(r"\w+", text.casefold()):
        vector[hashlib.sha256(word.encode()).digest()[0] % _DIMENSIONS] += 1
    normalised: Vector = vector / np.linalg.norm(vector)
    return normalised


class ParagraphSplitter:
    """`Splitter` at empty lines."""

    identity = "paragraphs-1"

    def split(self, source: str, text: str) -> list[Piece]:
        """The paragraphs."""
        found = [match for match in re.finditer(r"(?:[^\n]+\n?)+", text) if match[0].strip()]
        return [Piece(match[0].strip(), (), match.start(), index) for index, match in enumerate(found)]


class InMemoryKnowledgeFiles:
    """`KnowledgeFiles` from a dict of path to text; the paths are those of a knowledge-bases folder."""

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        self.texts = dict(texts or {})
        self.unreadable: set[str] = set()

    async def look(self) -> Found:
        """All but the unreadable ones."""
        readable = sorted(self.texts.keys() - self.unreadable)
        return Found([source_text(source, self.texts[source]) for source in readable], frozenset(self.unreadable))


def source_text(source: str, text: str) -> SourceText:
    """A document as the folders would give it."""
    parts = source.split("/")
    persona, base = (parts[1], parts[2]) if parts[0] == "personas" else (DEFAULT_PERSONA, parts[0])
    return SourceText(Shelf(persona, KnowledgeBase(base)), source, text, hashlib.sha256(text.encode()).hexdigest())


class InMemoryPassageStore:
    """`PassageStore` in dicts."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._unindexed: dict[str, Shelf] = {}

    async def fingerprints(self) -> dict[str, str]:
        """See `PassageStore.fingerprints`."""
        return {source: document.fingerprint for source, document in self._documents.items()}

    async def replace(self, document: Document) -> None:
        """See `PassageStore.replace`."""
        await self.remove(document.source_text.source)
        self._documents[document.source_text.source] = document
        self._unindexed |= {passage.id: passage.shelf for passage in document.passages}

    async def remove(self, source: str) -> None:
        """See `PassageStore.remove`."""
        if document := self._documents.pop(source, None):
            self._unindexed |= {passage.id: passage.shelf for passage in document.passages}

    async def souls(self) -> dict[str, str]:
        """See `PassageStore.souls`."""
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for _, document in sorted(self._documents.items()):
            shelf = document.source_text.shelf
            soul = shelf.knowledge_base is KnowledgeBase.SOUL
            texts[shelf.persona] += [document.source_text.text.strip()] if soul else []
        return {persona: "\n\n".join(bodies) for persona, bodies in texts.items()}

    async def search_words(self, words: Sequence[str], shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """See `PassageStore.search_words`; the score is how often the words occur."""
        hits = []
        for passage in self._passages().values():
            text = f"{passage.piece.title} {passage.piece.text}".casefold()
            found = re.findall(r"\w+", text)
            count = sum(found.count(word) for word in words)
            if count and passage.shelf in shelves:
                hits.append(Hit(passage.id, float(count)))
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """See `PassageStore.passages`."""
        known = self._passages()
        return {passage_id: known[passage_id] for passage_id in ids if passage_id in known}

    async def counts(self) -> dict[Shelf, int]:
        """See `PassageStore.counts`."""
        counts: defaultdict[Shelf, int] = defaultdict(int)
        for passage in self._passages().values():
            counts[passage.shelf] += 1
        return dict(counts)

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """See `PassageStore.unindexed`."""
        vectors = {
            passage.id: vector
            for document in self._documents.values()
            for passage, vector in zip(document.passages, document.vectors, strict=True)
        }
        changes: defaultdict[Shelf, dict[str, Vector | None]] = defaultdict(dict)
        for passage_id, shelf in sorted(self._unindexed.items(), key=lambda item: item[0])[:limit]:
            changes[shelf][passage_id] = vectors.get(passage_id)
        return dict(changes)

    async def mark_indexed(self, ids: Sequence[str]) -> None:
        """See `PassageStore.mark_indexed`."""
        for passage_id in ids:
            self._unindexed.pop(passage_id, None)

    async def mark_unindexed(self, shelf: Shelf) -> None:
        """See `PassageStore.mark_unindexed`."""
        self._unindexed |= {p.id: shelf for p in self._passages().values() if p.shelf == shelf}

    def _passages(self) -> dict[str, Passage]:
        return {p.id: p for document in self._documents.values() for p in document.passages}


class InMemoryVectorIndex:
    """`VectorIndex` by comparing with every vector. `broken` shelves cannot be read; `down` means nothing can."""

    def __init__(self) -> None:
        self.down = False
        self.broken: set[Shelf] = set()
        # How many passages it was told of, repeats included.
        self.told = 0
        self._vectors: dict[Shelf, dict[str, Vector]] = {}

    async def shelves(self) -> list[Shelf]:
        """See `VectorIndex.shelves`."""
        return list(self._vectors)

    async def count(self, shelf: Shelf) -> int | None:
        """See `VectorIndex.count`."""
        return None if shelf in self.broken else len(self._vectors.get(shelf, {}))

    async def clear(self, shelf: Shelf) -> None:
        """See `VectorIndex.clear`."""
        self.broken.discard(shelf)
        self._vectors.pop(shelf, None)

    async def apply(self, shelf: Shelf, changes: Mapping[str, Vector | None]) -> None:
        """See `VectorIndex.apply`."""
        self._check()
        self.told += len(changes)
        vectors = self._vectors.setdefault(shelf, {})
        for passage_id, vector in changes.items():
            if vector is None:
                vectors.pop(passage_id, None)
            else:
                vectors[passage_id] = vector

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """See `VectorIndex.nearest`."""
        self._check()
        hits = [
            Hit(passage_id, float(vector @ other))
            for shelf in shelves
            for passage_id, other in self._vectors.get(shelf, {}).items()
        ]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    def _check(self) -> None:
        if self.down:
            raise IndexUnavailableError("The vector index is down.")


class InMemorySessionStore:
    """`SessionStore` in a dict."""

    def __init__(self) -> None:
        self._turns: defaultdict[SessionKey, dict[tuple[str, int], Turn]] = defaultdict(dict)

    async def append(self, key: SessionKey, persona: str, turns: Sequence[Turn]) -> int:
        """See `SessionStore.append`."""
        known = self._turns[key]
        new = {(turn.run_id, turn.position): turn for turn in turns if (turn.run_id, turn.position) not in known}
        known |= new
        return len(new)

    async def newest(self, key: SessionKey, limit: int) -> list[Turn]:
        """See `SessionStore.newest`."""
        turns = self._turns[key].values() if key in self._turns else ()
        return sorted(turns, key=lambda turn: (turn.created_at, turn.run_id, turn.position))[-limit:]
