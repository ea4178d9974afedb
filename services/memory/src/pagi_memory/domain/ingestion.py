"""Keeps what is stored in step with the files that people write."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.model import Document, KnowledgeBase, Passage, Piece, SourceText
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.ports import Embedder, KnowledgeFiles, PassageStore, Splitter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngestionReport:
    """How many documents were found as they were, stored anew, removed."""

    unchanged: int
    stored: int
    removed: int


class Ingestion:
    """Brings the store in step with the files, then the index in step with the store.

    Killed at any moment, the next `run` ends where an undisturbed one would: each document is replaced in one
    transaction, and with it the note of what the index has to learn or to forget.
    """

    def __init__(
        self,
        files: KnowledgeFiles,
        splitter: Splitter,
        embedder: Embedder,
        store: PassageStore,
        indexing: Indexing,
        personas: Personas,
    ) -> None:
        self._files = files
        self._splitter = splitter
        self._embedder = embedder
        self._store = store
        self._indexing = indexing
        self._personas = personas

    async def run(self) -> IngestionReport:
        """Reads the files; stores what is new or changed, removes what has vanished.

        Raises:
            NoKnowledgeFolderError: The folder of the knowledge bases is not there.
            IndexUnavailableError: The index cannot be written; what is stored stays, the next run goes on.
        """
        found = await self._files.look()
        known = await self._store.fingerprints()
        stored = 0
        for source_text in found.texts:
            fingerprint = self._fingerprint(source_text)
            if known.get(source_text.source) != fingerprint:
                await self._store.replace(await self._document(source_text, fingerprint))
                stored += 1
                log.debug("stored %s", source_text.source)
        vanished = known.keys() - {text.source for text in found.texts} - found.unreadable
        for source in sorted(vanished):
            await self._store.remove(source)
            log.info("removed %s: its file has vanished", source)
        await self._indexing.bring_in_step()
        await self._personas.refresh()
        report = IngestionReport(len(found.texts) - stored, stored, len(vanished))
        log.info(
            "knowledge bases: %d documents unchanged, %d stored, %d removed",
            report.unchanged,
            report.stored,
            report.removed,
        )
        return report

    def _fingerprint(self, source_text: SourceText) -> str:
        # The Soul is stored as it is: how others are cut and embedded does not concern it.
        if source_text.shelf.knowledge_base is KnowledgeBase.SOUL:
            return source_text.content_hash
        parts = (source_text.content_hash, self._splitter.identity, self._embedder.identity)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    async def _document(self, source_text: SourceText, fingerprint: str) -> Document:
        if source_text.shelf.knowledge_base is KnowledgeBase.SOUL:
            return Document(source_text, fingerprint)
        pieces = self._splitter.split(source_text.source, source_text.text)
        passages = [
            Passage(_passage_id(source_text.source, p), source_text.shelf, source_text.source, p) for p in pieces
        ]
        vectors = await self._embedder.embed([embedded_text(piece) for piece in pieces])
        return Document(source_text, fingerprint, passages, vectors)


def _passage_id(source: str, piece: Piece) -> str:
    # Made from the content: a changed passage is another one, and an index that was lost gets the same ids.
    return hashlib.sha256("\0".join((source, str(piece.index), piece.title, piece.text)).encode()).hexdigest()[:24]


def embedded_text(piece: Piece) -> str:
    """What the embedder reads: the headings say what a passage is about that does not say so itself."""
    return f"{piece.title}\n{piece.text}" if piece.headings else piece.text
