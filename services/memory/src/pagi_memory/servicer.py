"""The gRPC edge: translates, calls the domain once, translates back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation

from pagi_memory.convert import (
    context_to_proto,
    document_to_proto,
    hit_to_proto,
    knowledge_bases_from_proto,
    narrowing_from_proto,
    new_playbook_from_proto,
    overview_to_proto,
    passage_to_proto,
    playbook_to_passage,
    playbook_to_proto,
    progress_to_proto,
    quotas_from_proto,
    run_record_from_proto,
    run_results_to_proto,
    session_to_proto,
    state_from_proto,
    statistics_to_proto,
    stored_passage_to_proto,
    trial_from_proto,
    turn_to_proto,
    turns_from_proto,
)
from pagi_memory.domain.clock import utc_now
from pagi_memory.domain.context import ContextAssembly
from pagi_memory.domain.documents import Documents
from pagi_memory.domain.history import History
from pagi_memory.domain.learning import Learning
from pagi_memory.domain.playbooks import Playbooks
from pagi_memory.domain.sessions import Sessions
from pagi_memory.schemas import records_from_jsonl, records_to_jsonl

if TYPE_CHECKING:
    import grpc

    RpcContext = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = "pagi.memory.v1.Memory"


class MemoryServicer(memory_pb2_grpc.MemoryServicer):
    """`pagi.memory.v1.Memory`; the tenant is the one that the call carries."""

    def __init__(
        self,
        context: ContextAssembly,
        history: History,
        documents: Documents,
        sessions: Sessions,
        playbooks: Playbooks,
        learning: Learning,
        *,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._context = context
        self._history = history
        self._documents = documents
        self._sessions = sessions
        self._playbooks = playbooks
        self._learning = learning
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
            max_history_tokens=request.max_history_tokens,
            # Looked at for each playbook: as a dict that is quicker.
            tool_versions=dict(request.tool_versions),
        )
        return context_to_proto(gathered)

    async def GetRAGContext(self, request: pb.GetRAGContextRequest, context: RpcContext) -> pb.GetRAGContextResponse:  # noqa: N802
        """The passages that answer a query best."""
        passages, playbooks = await self._context.look_up(
            correlation.current().tenant,
            request.query,
            persona=request.persona,
            knowledge_bases=knowledge_bases_from_proto(request.knowledge_bases),
            top_k=request.top_k,
            max_tokens=request.max_tokens,
            only=narrowing_from_proto(request),
            quotas=quotas_from_proto(request.quotas),
        )
        matches = [*map(passage_to_proto, passages), *map(playbook_to_passage, playbooks)]
        return pb.GetRAGContextResponse(matches=matches)

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

    async def ListSessions(self, request: pb.ListSessionsRequest, context: RpcContext) -> pb.ListSessionsResponse:  # noqa: N802
        """A page of sessions."""
        tenant = correlation.current().tenant
        page = await self._sessions.find(
            tenant, limit=request.limit, page_token=request.page_token, persona=request.persona
        )
        return pb.ListSessionsResponse(sessions=map(session_to_proto, page.sessions), next_page_token=page.next_token)

    async def GetSession(self, request: pb.GetSessionRequest, context: RpcContext) -> pb.GetSessionResponse:  # noqa: N802
        """One session with its summary."""
        tenant = correlation.current().tenant
        session, summary = await self._sessions.get(tenant, request.session_id)
        return pb.GetSessionResponse(
            session=session_to_proto(session),
            summary=summary.text,
            summary_by=summary.made_by,
            summarised_turns=summary.turns,
        )

    async def UpdateSession(self, request: pb.UpdateSessionRequest, context: RpcContext) -> pb.UpdateSessionResponse:  # noqa: N802
        """Another title."""
        tenant = correlation.current().tenant
        session = await self._sessions.rename(tenant, request.session_id, request.title)
        return pb.UpdateSessionResponse(session=session_to_proto(session))

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: RpcContext) -> pb.DeleteSessionResponse:  # noqa: N802
        """Forgets a session."""
        tenant = correlation.current().tenant
        return pb.DeleteSessionResponse(deleted_turns=await self._sessions.forget(tenant, request.session_id))

    async def UpdateTurn(self, request: pb.UpdateTurnRequest, context: RpcContext) -> pb.UpdateTurnResponse:  # noqa: N802
        """Another text of a turn."""
        tenant = correlation.current().tenant
        turn = await self._sessions.edit_turn(
            tenant, request.session_id, request.run_id, request.position, request.text
        )
        return pb.UpdateTurnResponse(turn=turn_to_proto(turn))

    async def DeleteTurn(self, request: pb.DeleteTurnRequest, context: RpcContext) -> pb.DeleteTurnResponse:  # noqa: N802
        """Forgets a turn."""
        tenant = correlation.current().tenant
        await self._sessions.forget_turn(tenant, request.session_id, request.run_id, request.position)
        return pb.DeleteTurnResponse()

    async def SearchHistory(self, request: pb.SearchHistoryRequest, context: RpcContext) -> pb.SearchHistoryResponse:  # noqa: N802
        """The turns that hold words of a query."""
        tenant = correlation.current().tenant
        hits = await self._sessions.search(
            tenant, request.query, session_id=request.session_id, persona=request.persona, limit=request.limit
        )
        return pb.SearchHistoryResponse(matches=map(hit_to_proto, hits))

    async def ExportSessions(  # noqa: N802
        self, request: pb.ExportSessionsRequest, context: RpcContext
    ) -> AsyncIterator[pb.ExportSessionsResponse]:
        """Sessions as JSON Lines, one session a message or some."""
        tenant = correlation.current().tenant
        async for record in self._sessions.export(tenant, request.session_id):
            for lines in records_to_jsonl(record):
                yield pb.ExportSessionsResponse(jsonl=lines)

    async def ImportSessions(self, request: pb.ImportSessionsRequest, context: RpcContext) -> pb.ImportSessionsResponse:  # noqa: N802
        """Takes such lines in."""
        tenant = correlation.current().tenant
        report = await self._sessions.take_in(tenant, records_from_jsonl(request.jsonl))
        return pb.ImportSessionsResponse(
            sessions=report.sessions, stored_turns=report.stored_turns, known_turns=report.known_turns
        )

    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: RpcContext) -> pb.GetStatisticsResponse:  # noqa: N802
        """How much the tenant has."""
        tenant = correlation.current().tenant
        return statistics_to_proto(await self._sessions.statistics(tenant), await self._playbooks.statistics(tenant))

    async def RecordPlaybook(self, request: pb.RecordPlaybookRequest, context: RpcContext) -> pb.RecordPlaybookResponse:  # noqa: N802
        """Learns how a run did its task."""
        tenant = correlation.current().tenant
        made_id, created = await self._learning.record(tenant, new_playbook_from_proto(request))
        return pb.RecordPlaybookResponse(id=made_id, created=created)

    async def RecordPlaybookOutcome(  # noqa: N802
        self, request: pb.RecordPlaybookOutcomeRequest, context: RpcContext
    ) -> pb.RecordPlaybookOutcomeResponse:
        """Counts how a run ended that was given playbooks."""
        tenant = correlation.current().tenant
        return pb.RecordPlaybookOutcomeResponse(
            counted=await self._learning.count_outcome(tenant, trial_from_proto(request))
        )

    async def RecordRuns(self, request: pb.RecordRunsRequest, context: RpcContext) -> pb.RecordRunsResponse:  # noqa: N802
        """Both for many runs at once."""
        tenant = correlation.current().tenant
        return run_results_to_proto(
            await self._learning.record_runs(tenant, [run_record_from_proto(run) for run in request.runs])
        )

    async def ListPlaybooks(self, request: pb.ListPlaybooksRequest, context: RpcContext) -> pb.ListPlaybooksResponse:  # noqa: N802
        """A page of playbooks."""
        tenant = correlation.current().tenant
        page = await self._playbooks.find(
            tenant,
            state=state_from_proto(request.state),
            persona=request.persona,
            query=request.query,
            limit=request.limit,
            page_token=request.page_token,
        )
        return pb.ListPlaybooksResponse(
            playbooks=map(playbook_to_proto, page.playbooks), next_page_token=page.next_token
        )

    async def GetPlaybook(self, request: pb.GetPlaybookRequest, context: RpcContext) -> pb.GetPlaybookResponse:  # noqa: N802
        """One playbook."""
        tenant = correlation.current().tenant
        return pb.GetPlaybookResponse(playbook=playbook_to_proto(await self._playbooks.get(tenant, request.id)))

    async def UpdatePlaybook(self, request: pb.UpdatePlaybookRequest, context: RpcContext) -> pb.UpdatePlaybookResponse:  # noqa: N802
        """Changes one, sets it aside or restores it."""
        tenant = correlation.current().tenant
        playbook = await self._playbooks.change(
            tenant,
            request.id,
            state=state_from_proto(request.state),
            prompt=request.prompt if request.HasField("prompt") else None,
            notes=request.notes if request.HasField("notes") else None,
        )
        return pb.UpdatePlaybookResponse(playbook=playbook_to_proto(playbook))

    async def DeletePlaybook(self, request: pb.DeletePlaybookRequest, context: RpcContext) -> pb.DeletePlaybookResponse:  # noqa: N802
        """Forgets one."""
        tenant = correlation.current().tenant
        await self._playbooks.forget(tenant, request.id)
        return pb.DeletePlaybookResponse()
