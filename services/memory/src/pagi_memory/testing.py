"""Fakes of every port, for tests of this service and of those that call it. They pass the tests of the real ones."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pagi_memory.domain.errors import IndexUnavailableError, UnknownDocumentError, UnreadableDocumentError
from pagi_memory.domain.model import (
    Document,
    DocumentInfo,
    Found,
    FoundFile,
    Hit,
    KnowledgeBase,
    Narrowing,
    Passage,
    Piece,
    Shelf,
    ShelfStatistics,
    SourceText,
)
from pagi_memory.domain.ports import EVERYTHING
from pagi_memory.domain.sources import shelf_of
from pagi_memory.domain.standalone import InMemorySessionStore as InMemorySessionStore

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

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

    async def embed_query(self, text: str) -> Vector:
        """The vector of a query."""
        [vector] = await self.embed([text])
        return vector


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
        self.metadata: dict[str, dict[str, str]] = {}
        # Found and not readable; found and readable until they are read.
        self.unreadable: set[str] = set()
        self.damaged: set[str] = set()
        self.touched = asyncio.Event()

    async def look(self) -> Found:
        """All of them."""
        texts = [source_text(source, self.texts[source]) for source in sorted(self.texts.keys() - self.unreadable)]
        files = [FoundFile(text.shelf, text.source, text.content_hash) for text in texts]
        return Found(files, dict.fromkeys(self.unreadable, "it cannot be read"))

    async def read(self, source: str) -> SourceText:
        """See `KnowledgeFiles.read`."""
        if source in self.damaged or source not in self.texts:
            raise UnreadableDocumentError("it is damaged")
        return source_text(source, self.texts[source], self.metadata.get(source))

    async def write(self, source: str, content: bytes) -> bool:
        """See `KnowledgeFiles.write`."""
        shelf_of(source)
        is_new = source not in self.texts
        self.texts[source] = content.decode()
        return is_new

    async def delete(self, source: str) -> None:
        """See `KnowledgeFiles.delete`."""
        if self.texts.pop(source, None) is None:
            raise UnknownDocumentError(source)

    async def changes(self) -> AsyncIterator[None]:
        """Whenever `touched` is set."""
        while True:
            await self.touched.wait()
            self.touched.clear()
            yield None


def source_text(source: str, text: str, metadata: Mapping[str, str] | None = None) -> SourceText:
    """A document as the folders would give it."""
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    return SourceText(shelf_of(source), source, text, content_hash, dict(metadata or {}))


class InMemoryPassageStore:
    """`PassageStore` in dicts."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._unindexed: dict[str, Shelf] = {}
        self._vectors: dict[str, dict[str, Vector]] = {"": {}}
        self._model = ""

    async def fingerprints(self) -> dict[str, str]:
        """See `PassageStore.fingerprints`."""
        return {source: document.fingerprint for source, document in self._documents.items()}

    async def replace(self, document: Document) -> None:
        """See `PassageStore.replace`."""
        old = self._documents.get(document.source_text.source)
        before = {passage.id: passage.shelf for passage in (old.passages if old else [])}
        after = {passage.id: passage.shelf for passage in document.passages}
        self._documents[document.source_text.source] = document
        self._unindexed |= {i: s for i, s in (before | after).items() if (i in before) != (i in after)}
        for vectors in self._vectors.values():
            for passage_id in before.keys() - after.keys():
                vectors.pop(passage_id, None)
        ids = [passage.id for passage in document.passages]
        self._vectors[self._model] |= dict(zip(ids, document.vectors, strict=True))

    async def remove(self, source: str) -> None:
        """See `PassageStore.remove`."""
        if document := self._documents.pop(source, None):
            self._unindexed |= {passage.id: passage.shelf for passage in document.passages}

    async def forget_documents(self) -> None:
        """See `PassageStore.forget_documents`."""
        for source in list(self._documents):
            await self.remove(source)

    async def souls(self) -> dict[str, str]:
        """See `PassageStore.souls`."""
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for _, document in sorted(self._documents.items()):
            shelf = document.source_text.shelf
            soul = shelf.knowledge_base is KnowledgeBase.SOUL
            texts[shelf.persona] += [document.source_text.text.strip()] if soul else []
        return {persona: "\n\n".join(bodies) for persona, bodies in texts.items()}

    async def search_words(
        self, words: Sequence[str], shelves: Sequence[Shelf], limit: int, only: Narrowing = EVERYTHING
    ) -> list[Hit]:
        """See `PassageStore.search_words`; the score is how often the words occur."""
        hits = []
        for passage in self._passages().values():
            text = f"{passage.piece.title} {passage.piece.text}".casefold()
            found = re.findall(r"\w+", text)
            count = sum(found.count(word) for word in words)
            if count and passage.shelf in shelves and _concerns(only, passage):
                hits.append(Hit(passage.id, float(count)))
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def nearest(
        self, vector: Vector, shelves: Sequence[Shelf], limit: int, only: Narrowing = EVERYTHING
    ) -> list[Hit]:
        """See `PassageStore.nearest`."""
        known = self._vectors[self._model]
        hits = [
            Hit(passage.id, float(vector @ known[passage.id]))
            for passage in self._passages().values()
            if passage.shelf in shelves and passage.id in known and _concerns(only, passage)
        ]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """See `PassageStore.passages`."""
        known = self._passages()
        return {passage_id: known[passage_id] for passage_id in ids if passage_id in known}

    async def documents(
        self, *, after: str = "", limit: int, persona: str = "", bases: Sequence[str] = ()
    ) -> list[DocumentInfo]:
        """See `PassageStore.documents`."""
        found = [_info(document) for source, document in sorted(self._documents.items()) if source > after]
        return [
            info
            for info in found
            if persona in ("", info.shelf.persona) and (not bases or info.shelf.knowledge_base in bases)
        ][:limit]

    async def document(self, source: str) -> tuple[DocumentInfo, str, list[Passage]] | None:
        """See `PassageStore.document`."""
        document = self._documents.get(source)
        return (_info(document), document.source_text.text, list(document.passages)) if document else None

    async def statistics(self) -> list[ShelfStatistics]:
        """See `PassageStore.statistics`."""
        shelves = sorted({d.source_text.shelf for d in self._documents.values()}, key=lambda shelf: shelf.collection)
        of_shelf = {s: [_info(d) for d in self._documents.values() if d.source_text.shelf == s] for s in shelves}
        return [
            ShelfStatistics(shelf, len(infos), sum(i.passages for i in infos), sum(i.characters for i in infos))
            for shelf, infos in of_shelf.items()
        ]

    async def counts(self) -> dict[Shelf, int]:
        """See `PassageStore.counts`."""
        return dict(Counter(passage.shelf for passage in self._passages().values()))

    async def count(self, shelf: Shelf) -> int:
        """See `PassageStore.count`."""
        return (await self.counts()).get(shelf, 0)

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """See `PassageStore.unindexed`."""
        known = self._passages()
        vectors = self._vectors[self._model]
        changes: defaultdict[Shelf, dict[str, Vector | None]] = defaultdict(dict)
        for passage_id, shelf in sorted(self._unindexed.items(), key=lambda item: item[0])[:limit]:
            changes[shelf][passage_id] = vectors.get(passage_id) if passage_id in known else None
        return dict(changes)

    async def mark_indexed(self, ids: Sequence[str]) -> None:
        """See `PassageStore.mark_indexed`."""
        for passage_id in ids:
            self._unindexed.pop(passage_id, None)

    async def mark_unindexed(self, shelf: Shelf) -> None:
        """See `PassageStore.mark_unindexed`."""
        self._unindexed |= {p.id: shelf for p in self._passages().values() if p.shelf == shelf}

    async def vectors(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        """See `PassageStore.vectors`."""
        import numpy as np

        ids = [p.id for p in self._passages().values() if p.shelf == shelf]
        vectors = self._vectors[self._model]
        return ids, np.array([vectors[passage_id] for passage_id in ids], dtype=np.float32)

    async def vectors_of(self, source: str) -> dict[str, Vector]:
        """See `PassageStore.vectors_of`."""
        document, vectors = self._documents.get(source), self._vectors[self._model]
        passages = document.passages if document else []
        return {passage.piece.embedded_text: vectors[passage.id] for passage in passages}

    async def serving_model(self) -> str:
        """See `PassageStore.serving_model`."""
        return self._model

    async def serve_model(self, model: str) -> None:
        """See `PassageStore.serve_model`."""
        self._vectors = {model: self._vectors.get(model, {})}
        self._model = model
        self._unindexed |= {p.id: p.shelf for p in self._passages().values()}

    async def without_vector(self, model: str, limit: int) -> dict[str, str]:
        """See `PassageStore.without_vector`."""
        known = self._vectors.get(model, {})
        missing = [p for p in self._passages().values() if p.id not in known]
        return {p.id: p.piece.embedded_text for p in missing[:limit]}

    async def add_vectors(self, model: str, vectors: Mapping[str, Vector]) -> None:
        """See `PassageStore.add_vectors`."""
        there = self._passages()
        self._vectors.setdefault(model, {}).update({i: v for i, v in vectors.items() if i in there})

    async def count_vectors(self, model: str) -> int:
        """See `PassageStore.count_vectors`."""
        return len(self._vectors.get(model, {}).keys() & self._passages().keys())

    def _passages(self) -> dict[str, Passage]:
        return {p.id: p for document in self._documents.values() for p in document.passages}


def _concerns(only: Narrowing, passage: Passage) -> bool:
    named = not only.sources or any(
        re.fullmatch(".*".join(map(re.escape, source.split("*"))), passage.source) for source in only.sources
    )
    return named and only.metadata.items() <= passage.metadata.items()


def _info(document: Document) -> DocumentInfo:
    text = document.source_text
    updated_at = datetime(2026, 1, 1, tzinfo=UTC)
    return DocumentInfo(text.source, text.shelf, len(document.passages), len(text.text), text.metadata, updated_at)


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

    async def entries(self, shelf: Shelf) -> set[str]:
        """See `VectorIndex.entries`."""
        self._check()
        return set(self._vectors.get(shelf, ()))

    def outdate(self, shelf: Shelf) -> None:
        """Nothing is kept beside the vectors."""

    async def is_asked(self, shelf: Shelf) -> bool:
        """See `VectorIndex.is_asked`."""
        return True

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
