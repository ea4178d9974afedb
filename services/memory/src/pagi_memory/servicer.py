"""The gRPC edge: translates, calls the domain once, translates back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation

from pagi_memory.convert import (
    context_to_proto,
    knowledge_bases_from_proto,
    passage_to_proto,
    turn_to_proto,
    turns_from_proto,
)
from pagi_memory.domain.context import ContextAssembly
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
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._context = context
        self._recall = recall
        self._history = history
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
        )
        return context_to_proto(gathered)

    async def GetRAGContext(self, request: pb.GetRAGContextRequest, context: RpcContext) -> pb.GetRAGContextResponse:  # noqa: N802
        """The passages that answer a query best."""
        found = await self._recall.search(
            request.query,
            persona=request.persona,
            knowledge_bases=knowledge_bases_from_proto(request.knowledge_bases),
            top_k=request.top_k,
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
