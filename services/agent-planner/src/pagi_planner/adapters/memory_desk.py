"""What people ask of memory itself: documents, sessions, turns, playbooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pagi.memory.v1 import memory_pb2, memory_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.proto_json import enum_from_json, to_json

from pagi_planner.convert import knowledge_base_from_name

EXPORT_TIMEOUT_S = 600.0
# Memory answers when the document can be found: it waits for an ingestion under way, and embeds.
CHANGE_TIMEOUT_S = 300.0
_SLOW = ("PutDocument", "DeleteDocument")


class MemoryDesk:
    """Hands questions on as they are and answers as JSON: the planner says who asks, and nothing else.

    Args:
        client: Of the memory service; the tenant of the request goes with each call.
        timeout_s: For one call.
    """

    def __init__(self, client: GrpcClient, *, timeout_s: float = 10.0) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._stub = memory_pb2_grpc.MemoryStub(client.channel)

    async def ask(self, rpc: str, **fields: Any) -> dict[str, Any]:
        """One question. See the port for what is raised."""
        if state := fields.pop("state", None):
            fields["state"] = enum_from_json(memory_pb2.PlaybookState.DESCRIPTOR, state)
        if bases := fields.pop("knowledge_bases", None):
            fields["knowledge_bases"] = [knowledge_base_from_name(name) for name in bases]
        request = getattr(memory_pb2, f"{rpc}Request")(**{name: _text(value) for name, value in fields.items()})
        # A repeat of a deletion would say that there was nothing to delete.
        repeatable = rpc.startswith(("Get", "List", "Search"))
        timeout_s = CHANGE_TIMEOUT_S if rpc in _SLOW else self._timeout_s
        answer = await self._client.call(getattr(self._stub, rpc), request, timeout_s=timeout_s, repeatable=repeatable)
        return to_json(answer)

    async def export(self, session_id: str) -> AsyncIterator[str]:
        """Sessions as JSON Lines. See the port for what is raised."""
        request = memory_pb2.ExportSessionsRequest(session_id=session_id)
        async for part in self._client.stream(self._stub.ExportSessions, request, timeout_s=EXPORT_TIMEOUT_S):
            yield part.jsonl


def _text(value: Any) -> Any:
    # JSON can hold half of a surrogate pair, which is no text for anybody else.
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
