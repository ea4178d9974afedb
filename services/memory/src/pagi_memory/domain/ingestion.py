"""Keeps what is stored in step with the files that people write."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from pagi_memory.domain.errors import UnreadableDocumentError
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.model import Document, FoundFile, KnowledgeBase, Passage, Piece, Shelf, SourceText
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.ports import KnowledgeFiles, PassageStore, Splitter

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

log = logging.getLogger(__name__)

# So many documents are taken in at once: reading and cutting one goes on while another is embedded, and short
# documents fill the batches of all cores.
AT_ONCE = 4


class IngestPhase(StrEnum):
    """What an ingestion is doing."""

    LOOKING = "looking"
    STORING = "storing"
    INDEXING = "indexing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class IngestionReport:
    """How many documents were found as they were, stored anew, removed; what could not be taken in, and why."""

    unchanged: int
    stored: int
    removed: int
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingestion is: `done` of `total` documents that have to be taken in; `source` was the last."""

    phase: IngestPhase
    total: int
    done: int
    source: str
    report: IngestionReport


def _nobody(_: object) -> None:
    """Nobody listens."""


class TextEmbedder(Protocol):
    """What documents need of an `Embedder`."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed`."""


class Ingestion:
    """Brings the store in step with the files, then the index in step with the store.

    Killed at any moment, the next `run` ends where an undisturbed one would: each document is replaced in one
    transaction, and with it the note of what the index has to learn or to forget. One run at a time.
    """

    def __init__(
        self,
        files: KnowledgeFiles,
        splitter: Splitter,
        embedder: TextEmbedder,
        store: PassageStore,
        indexing: Indexing,
        personas: Personas,
        *,
        count: Callable[[Mapping[Shelf, int]], None] = _nobody,
    ) -> None:
        self._files = files
        self._count = count
        self._splitter = splitter
        self._embedder = embedder
        self._store = store
        self._indexing = indexing
        self._personas = personas
        # Held by whoever changes what is stored.
        self.lock = asyncio.Lock()
        # What could not be made of which content; it is not tried again before it changes.
        self._failed: dict[str, tuple[str, str]] = {}
        self.skipped: Mapping[str, str] = {}
        # Whether the index was in step with the store at the end of the last run.
        self.in_step = False

    async def run(
        self, *, rebuild: bool = False, check: bool = True, tell: Callable[[IngestProgress], None] = _nobody
    ) -> IngestionReport:
        """Looks at the files; stores what is new or changed, removes what has vanished.

        Args:
            rebuild: Take in every document anew, the unchanged ones too.
            check: Compare the index with the store, and not only tell it what has changed.
            tell: Called with how far it is, at least once for each document.

        Raises:
            NoKnowledgeFolderError: The folder of the knowledge bases is not there.
            IndexUnavailableError: The index cannot be written; what is stored stays, the next run goes on.
        """
        async with self.lock:
            return await _Run(self, rebuild, check, tell).run()

    async def _plan(self, rebuild: bool) -> tuple[list[FoundFile], list[str], IngestionReport]:
        """What to take in, what to remove, and a report on the rest."""
        found = await self._files.look()
        known = {} if rebuild else await self._store.fingerprints()
        self._failed = {} if rebuild else self._failed
        skipped = dict(found.unreadable)
        changed = []
        for file in found.files:
            fingerprint = self._fingerprint(file)
            if self._failed.get(file.source, ("",))[0] == fingerprint:
                skipped[file.source] = self._failed[file.source][1]
            elif known.get(file.source) != fingerprint:
                changed.append(file)
        there = {file.source for file in found.files} | found.unreadable.keys()
        self._failed = {source: why for source, why in self._failed.items() if source in there}
        vanished = sorted((await self._store.fingerprints()).keys() - there)
        unchanged = len(found.files) - len(changed) - sum(f.source in skipped for f in found.files)
        return changed, vanished, IngestionReport(unchanged, 0, 0, skipped)

    async def _take_in(self, file: FoundFile, *, anew: bool) -> None:
        """Stores one document; `anew`: embeds all of it.

        Raises:
            UnreadableDocumentError: It cannot be read.
        """
        text = await self._files.read(file.source)
        # By what was read: the file may have changed since it was looked at.
        fingerprint = self._fingerprint(FoundFile(text.shelf, text.source, text.content_hash))
        await self._store.replace(await self._document(text, fingerprint, anew))
        log.debug("stored %s", file.source)

    def _fingerprint(self, file: FoundFile) -> str:
        # The Soul is stored as it is: how others are cut does not concern it.
        if file.shelf.knowledge_base is KnowledgeBase.SOUL:
            return file.content_hash
        return hashlib.sha256(f"{file.content_hash}\n{self._splitter.identity}".encode()).hexdigest()

    async def _document(self, text: SourceText, fingerprint: str, anew: bool) -> Document:
        if text.shelf.knowledge_base is KnowledgeBase.SOUL:
            return Document(text, fingerprint)
        # In a thread: cutting a megabyte takes a second, and others are served meanwhile.
        pieces = await asyncio.to_thread(self._splitter.split, text.source, text.text)
        known = {} if anew else await self._store.vectors_of(text.source)
        new = list(dict.fromkeys(piece.embedded_text for piece in pieces if piece.embedded_text not in known))
        vectors: dict[str, Vector] = known | dict(zip(new, await self._embedder.embed(new), strict=True))
        passages = [
            Passage(passage_id, text.shelf, text.source, piece, text.metadata)
            for passage_id, piece in _named(text.source, pieces)
        ]
        return Document(text, fingerprint, passages, [vectors[piece.embedded_text] for piece in pieces])


class _Run:
    """One run of an ingestion."""

    def __init__(
        self, ingestion: Ingestion, rebuild: bool, check: bool, tell: Callable[[IngestProgress], None]
    ) -> None:
        self._of = ingestion
        self._rebuild = rebuild
        self._check = check
        self._tell = tell
        self._report = IngestionReport(0, 0, 0)
        self._total = self._done = 0
        self._changed: list[FoundFile] = []

    async def run(self) -> IngestionReport:
        self._say(IngestPhase.LOOKING)
        self._changed, vanished, self._report = await self._of._plan(self._rebuild)
        for source, reason in sorted(self._report.skipped.items()):
            if self._of.skipped.get(source) != reason:
                log.warning("skipped %s: %s", source, reason)
        self._total = len(self._changed)
        self._changed.reverse()
        self._say(IngestPhase.STORING)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(AT_ONCE, self._total)):
                    workers.create_task(self._work())
        except ExceptionGroup as failures:
            # One is enough, and it has a status. (What `except*` raises, Python 3.11.2 puts into a group again.)
            raise failures.exceptions[0] from failures
        for source in vanished:
            await self._of._store.remove(source)
            log.info("removed %s: its file has vanished", source)
        self._report = replace(self._report, removed=len(vanished))
        self._of.skipped = self._report.skipped
        self._say(IngestPhase.INDEXING)
        # The Souls first: they do not wait for an index that is down.
        await self._of._personas.refresh()
        if self._rebuild:
            await self._of._indexing.rebuild()
        check, self._of.in_step = self._check or not self._of.in_step, False
        await self._of._indexing.bring_in_step(check=check)
        self._of.in_step = True
        self._of._count(await self._of._store.counts())
        self._say(IngestPhase.DONE)
        log.info(
            "knowledge bases: %d documents unchanged, %d stored, %d removed, %d skipped",
            self._report.unchanged,
            self._report.stored,
            self._report.removed,
            len(self._report.skipped),
        )
        return self._report

    async def _work(self) -> None:
        while self._changed:
            file = self._changed.pop()
            try:
                await self._of._take_in(file, anew=self._rebuild)
                self._report = replace(self._report, stored=self._report.stored + 1)
            except UnreadableDocumentError as error:
                log.warning("skipped %s: %s", file.source, error)
                self._of._failed[file.source] = (self._of._fingerprint(file), error.message)
                self._report = replace(self._report, skipped={**self._report.skipped, file.source: error.message})
            self._done += 1
            self._say(IngestPhase.STORING, file.source)

    def _say(self, phase: IngestPhase, source: str = "") -> None:
        self._tell(IngestProgress(phase, self._total, self._done, source, self._report))


def _named(source: str, pieces: list[Piece]) -> list[tuple[str, Piece]]:
    """Ids made from the content, so that a changed passage is another one and an index that was lost gets the same.

    A piece that only moved keeps its id; of equal ones each has its own.
    """
    seen: Counter[tuple[str, str]] = Counter()
    named = []
    for piece in pieces:
        content = (piece.title, piece.text)
        parts = (source, *content, str(seen[content]))
        seen[content] += 1
        named.append((hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24], piece))
    return named
