"""Lets people look at the documents and change them; the files stay the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.errors import NotAnEditorError, UnknownDocumentError
from pagi_memory.domain.ingestion import Ingestion, IngestPhase, IngestProgress
from pagi_memory.domain.limits import MAX_GIVEN_BYTES, checked_count, first_that_fit
from pagi_memory.domain.model import DocumentInfo, KnowledgeBase, Passage, ShelfStatistics
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.ports import KnowledgeFiles, PassageStore
from pagi_memory.domain.reembedding import Reembedding
from pagi_memory.domain.sources import MAX_SOURCE_CHARS, shelf_of

MAX_PAGE = 1_000
_PAGE = 100
ANY_TENANT = "*"


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is: each shelf, the model that serves and the next one (empty: none), what was skipped and why."""

    shelves: Sequence[ShelfStatistics]
    model: str
    next_model: str
    reembedded: int
    skipped: Mapping[str, str]


class Documents:
    """Knowledge belongs to the installation: every tenant reads it, and those named as editors change it.

    A caller without a tenant is the installation itself.
    """

    def __init__(
        self,
        files: KnowledgeFiles,
        store: PassageStore,
        ingestion: Ingestion,
        personas: Personas,
        reembedding: Reembedding,
        *,
        editors: Collection[str] = (),
    ) -> None:
        self._files = files
        self._store = store
        self._ingestion = ingestion
        self._personas = personas
        self._reembedding = reembedding
        self._editors = frozenset(editors)

    def check_editor(self, tenant: str) -> None:
        """Does nothing where the tenant may change the knowledge.

        Raises:
            NotAnEditorError: It may not.
        """
        if tenant and not self._editors & {tenant, ANY_TENANT}:
            raise NotAnEditorError

    async def page(
        self,
        *,
        persona: str = "",
        knowledge_bases: Sequence[KnowledgeBase] = (),
        page_size: int = 0,
        after: str = "",
    ) -> tuple[list[DocumentInfo], str]:
        """A page of documents in the order of their sources, and the last of them where more follow.

        Raises:
            InvalidArgumentError: `page_size` is not 0 to 1,000, or `after` is no source.
            UnknownPersonaError: There is no such persona.
        """
        size = checked_count(page_size, "page_size", default=_PAGE, most=MAX_PAGE)
        if len(after) > MAX_SOURCE_CHARS:
            raise InvalidArgumentError("page_token is none that was given.", field="page_token")
        name = self._personas.named(persona) if persona else ""
        bases = [base.value for base in knowledge_bases]
        found = await self._store.documents(after=after, limit=size + 1, persona=name, bases=bases)
        page = first_that_fit(found[:size], lambda info: [*info.metadata.keys(), *info.metadata.values()])
        return page, page[-1].source if len(found) > len(page) else ""

    async def get(self, source: str) -> tuple[DocumentInfo, str, list[Passage]]:
        """A document, its text and its passages in order; of a long one those that fit beside the text.

        Raises:
            UnknownDocumentError: There is none of this source.
        """
        if (found := await self._store.document(source)) is None:
            raise UnknownDocumentError(source)
        info, text, passages = found
        room = MAX_GIVEN_BYTES - len(text.encode())
        return info, text, first_that_fit(passages, lambda each: [each.piece.text, *each.piece.headings], most=room)

    async def put(self, tenant: str, source: str, content: bytes) -> tuple[DocumentInfo, bool]:
        """Writes a file and takes it in; the document, and whether it is a new one.

        Raises:
            NotAnEditorError: The tenant may not.
            InvalidArgumentError: No document can have this source, or the content cannot be read.
        """
        self.check_editor(tenant)
        shelf_of(source)
        is_new = await self._files.write(source, content)
        await self._ingestion.run(check=False)
        info, _, _ = await self.get(source)
        return info, is_new

    async def delete(self, tenant: str, source: str) -> None:
        """Deletes a file and forgets the document.

        Raises:
            NotAnEditorError: The tenant may not.
            UnknownDocumentError: There is none of this source.
        """
        self.check_editor(tenant)
        shelf_of(source)
        await self._files.delete(source)
        await self._ingestion.run(check=False)

    async def ingest(self, tenant: str, *, rebuild: bool = False) -> AsyncIterator[IngestProgress]:
        """Brings all in step with the files and tells how far it is; ends early where nobody listens any more.

        Raises:
            NotAnEditorError: The tenant may not.
            NoKnowledgeFolderError: The folder of the knowledge bases is not there.
            IndexUnavailableError: The index cannot be written; what is stored stays.
        """
        self.check_editor(tenant)
        told: asyncio.Queue[IngestProgress] = asyncio.Queue()
        run = asyncio.create_task(self._ingestion.run(rebuild=rebuild, tell=told.put_nowait))
        try:
            while True:
                next_one = asyncio.create_task(told.get())
                await asyncio.wait({run, next_one}, return_when=asyncio.FIRST_COMPLETED)
                if not next_one.done():
                    next_one.cancel()
                    # Raises what went wrong: an undisturbed run tells that it is done.
                    await run
                    return
                yield (progress := next_one.result())
                if progress.phase is IngestPhase.DONE:
                    return
        finally:
            if not run.done():
                run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run

    async def overview(self) -> Overview:
        """What there is."""
        shelves, model, reembedded = await asyncio.gather(
            self._store.statistics(), self._store.serving_model(), self._reembedding.made()
        )
        return Overview(shelves, model, self._reembedding.next_model, reembedded, self._ingestion.skipped)
