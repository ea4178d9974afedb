"""The gRPC edge: translates, calls the domain once, translates back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation

from pagi_memory.convert import (
    context_to_proto,
    document_to_proto,
    knowledge_bases_from_proto,
    narrowing_from_proto,
    overview_to_proto,
    passage_to_proto,
    progress_to_proto,
    quotas_from_proto,
    stored_passage_to_proto,
    turn_to_proto,
    turns_from_proto,
)
from pagi_memory.domain.context import ContextAssembly
from pagi_memory.domain.documents import Documents
from pagi_memory.domain.history import History
from pagi_memory.domain.recall import Recall

if TYPE_CHECKING:
    import grpc

    RpcContext = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = "pagi.memory.v1.Memory"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryServicer(memory_pb2_grpc.MemoryServicer):
    """`pagi.memory.v1.Memory`; the tenant is the one that the call carries."""

    def __init__(
        self,
        context: ContextAssembly,
        recall: Recall,
        history: History,
        documents: Documents,
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._context = context
        self._recall = recall
        self._history = history
        self._documents = documents
        self._now = now

    async def GetContext(self, request: pb.GetContextRequest, context: RpcContext) -> pb.GetContextResponse:  # noqa: N802
        """Persona, history and passages in one answer."""
        gathered = await self._context.gather(
            correlation.current().tenant,
            request.session_id,
            query=request.query,
            persona=request.persona,
            top_k=request.top_k,
            max_turns=request.max_turns,
            max_passage_tokens=request.max_passage_tokens,
        )
        return context_to_proto(gathered)

    async def GetRAGContext(self, request: pb.GetRAGContextRequest, context: RpcContext) -> pb.GetRAGContextResponse:  # noqa: N802
        """The passages that answer a query best."""
        found = await self._recall.search(
            request.query,
            persona=request.persona,
            knowledge_bases=knowledge_bases_from_proto(request.knowledge_bases),
            top_k=request.top_k,
            max_tokens=request.max_tokens,
            only=narrowing_from_proto(request),
            quotas=quotas_from_proto(request.quotas),
        )
        return pb.GetRAGContextResponse(matches=map(passage_to_proto, found))

    async def GetSessionHistory(  # noqa: N802
        self, request: pb.GetSessionHistoryRequest, context: RpcContext
    ) -> pb.GetSessionHistoryResponse:
        """The newest turns of a session, oldest of them first."""
        turns = await self._history.newest(
            correlation.current().tenant, request.session_id, max_turns=request.max_turns
        )
        return pb.GetSessionHistoryResponse(turns=map(turn_to_proto, turns))

    async def StoreSessionHistory(  # noqa: N802
        self, request: pb.StoreSessionHistoryRequest, context: RpcContext
    ) -> pb.StoreSessionHistoryResponse:
        """Appends the turns of a run; a repeat changes nothing."""
        stored = await self._history.append(
            correlation.current().tenant,
            request.session_id,
            persona=request.persona,
            turns=turns_from_proto(request.turns, run_id=request.run_id, now=self._now()),
        )
        return pb.StoreSessionHistoryResponse(stored=stored)

    async def IngestKnowledgeBases(  # noqa: N802
        self, request: pb.IngestKnowledgeBasesRequest, context: RpcContext
    ) -> AsyncIterator[pb.IngestKnowledgeBasesResponse]:
        """Brings all in step with the files, and tells how far it is."""
        async for progress in self._documents.ingest(correlation.current().tenant, rebuild=request.rebuild):
            yield progress_to_proto(progress)

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: RpcContext) -> pb.ListDocumentsResponse:  # noqa: N802
        """A page of documents."""
        found, token = await self._documents.page(
            persona=request.persona,
            knowledge_bases=knowledge_bases_from_proto(request.knowledge_bases),
            page_size=request.page_size,
            after=request.page_token,
        )
        return pb.ListDocumentsResponse(documents=map(document_to_proto, found), next_page_token=token)

    async def GetDocument(self, request: pb.GetDocumentRequest, context: RpcContext) -> pb.GetDocumentResponse:  # noqa: N802
        """A document with its text and its passages."""
        info, text, passages = await self._documents.get(request.source)
        return pb.GetDocumentResponse(
            document=document_to_proto(info), text=text, passages=map(stored_passage_to_proto, passages)
        )

    async def PutDocument(self, request: pb.PutDocumentRequest, context: RpcContext) -> pb.PutDocumentResponse:  # noqa: N802
        """Writes the file of a document and takes it in."""
        content = request.content if request.WhichOneof("body") == "content" else request.text.encode()
        info, created = await self._documents.put(correlation.current().tenant, request.source, content)
        return pb.PutDocumentResponse(document=document_to_proto(info), created=created)

    async def DeleteDocument(  # noqa: N802
        self, request: pb.DeleteDocumentRequest, context: RpcContext
    ) -> pb.DeleteDocumentResponse:
        """Deletes the file of a document and forgets it."""
        await self._documents.delete(correlation.current().tenant, request.source)
        return pb.DeleteDocumentResponse()

    async def GetKnowledgeStatistics(  # noqa: N802
        self, request: pb.GetKnowledgeStatisticsRequest, context: RpcContext
    ) -> pb.GetKnowledgeStatisticsResponse:
        """What there is."""
        return overview_to_proto(await self._documents.overview())
