"""Knowledge and history behind the memory service's gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pagi.memory.v1 import memory_pb2, memory_pb2_grpc
from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pagi_chassis.grpc_client import GrpcClient

from pagi_planner.convert import accounts_to_proto, context_from_proto, exchange_to_proto
from pagi_planner.domain.errors import UnknownPersonaError
from pagi_planner.domain.model import Context, Exchange, RunRequest
from pagi_planner.domain.state.lesson import Account

# The longest query that memory takes; passages are found by how a request begins.
QUERY_CHARACTERS = 32_768
# What memory takes of one call, and how long it may embed and store that.
MOST_ACCOUNTS = 500
MOST_BYTES = 8_000_000
RECORD_TIMEOUT_S = 30.0
# What the caller of a run knows as something else.
_FIELDS = {"query": "prompt"}


class MemoryClient:
    """Asks memory.

    Args:
        client: Of the memory service.
        top_k: Passages for a run.
        timeout_s: For one call.
        tool_versions: The versions of the tools as they are known now, by name.
    """

    def __init__(
        self,
        client: GrpcClient,
        *,
        top_k: int,
        timeout_s: float = 5.0,
        tool_versions: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._tool_versions = tool_versions
        self._client = client
        self._top_k = top_k
        self._timeout_s = timeout_s
        self._stub = memory_pb2_grpc.MemoryStub(client.channel)

    async def recall(self, request: RunRequest) -> Context:
        """All that the run begins with.

        Raises:
            UnknownPersonaError: There is no such persona.
            InvalidArgumentError: Memory refuses the request.
            PagiError: Memory cannot be reached.
        """
        query = memory_pb2.GetContextRequest(
            session_id=request.session_id,
            query=request.prompt[:QUERY_CHARACTERS],
            persona=request.persona,
            top_k=self._top_k,
            tool_versions=self._tool_versions(),
        )
        try:
            answer = await self._client.call(self._stub.GetContext, query, timeout_s=self._timeout_s, repeatable=True)
        except NotFoundError as error:
            raise UnknownPersonaError(error.message, field="persona") from error
        except InvalidArgumentError as error:
            raise InvalidArgumentError(error.message, field=_FIELDS.get(error.field, error.field)) from error
        return context_from_proto(answer)

    async def remember(self, exchange: Exchange) -> None:
        """Adds to the session's history; the same exchange twice is stored once."""
        await self._client.call(
            self._stub.StoreSessionHistory, exchange_to_proto(exchange), timeout_s=self._timeout_s, repeatable=True
        )

    async def record(self, accounts: Sequence[Account]) -> Sequence[str]:
        """Keeps how runs did what they were asked, and counts how those ended that were given playbooks.

        Raises:
            PagiError: Memory cannot be reached.
        """
        refusals: list[str] = []
        for at in range(0, len(accounts), MOST_ACCOUNTS):
            refusals += await self._record(accounts[at : at + MOST_ACCOUNTS])
        return refusals

    async def _record(self, accounts: Sequence[Account]) -> Sequence[str]:
        """One call; two where one message does not hold them."""
        request = accounts_to_proto(accounts)
        if request.ByteSize() > MOST_BYTES:
            # It would be refused for ever, and with it all that comes later.
            if len(accounts) == 1:
                return [f"what there is to tell of it has more than {MOST_BYTES:,} bytes"]
            half = len(accounts) // 2
            return [*await self._record(accounts[:half]), *await self._record(accounts[half:])]
        answer = await self._client.call(self._stub.RecordRuns, request, timeout_s=RECORD_TIMEOUT_S, repeatable=True)
        return [result.message if result.code else "" for result in answer.results]
