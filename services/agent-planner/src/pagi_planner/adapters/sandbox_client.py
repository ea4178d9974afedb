"""Tools behind the sandbox's gRPC."""

from __future__ import annotations

import asyncio
import logging
import time

from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis.errors import PagiError
from pagi_chassis.grpc_client import GrpcClient

from pagi_planner.convert import tool_outcome_from_proto, tool_spec_from_proto
from pagi_planner.domain.model import ToolCall, ToolOutcome, ToolSpec

log = logging.getLogger(__name__)

# Tools change when a sandbox is restarted with others: seldom, and a run that knows of them late loses little.
FRESH_S = 10.0
LIST_TIMEOUT_S = 2.0


class SandboxTools:
    """Asks the sandbox.

    Args:
        client: Of the sandbox.
        timeout_s: For one tool call; less where the run has less.
        fresh_s: For how long the list of tools is not asked for again.
    """

    know_effects = True

    def __init__(self, client: GrpcClient, *, timeout_s: float, fresh_s: float = FRESH_S) -> None:
        self._client = client
        self._fresh_s = fresh_s
        self._timeout_s = timeout_s
        self._stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
        self._specs: tuple[ToolSpec, ...] = ()
        self._asked_at = 0.0
        self._refreshing: asyncio.Task[None] | None = None

    async def specs(self) -> tuple[ToolSpec, ...]:
        """Every tool. What is known is given at once and refreshed behind the answer.

        Raises:
            PagiError: The sandbox cannot be reached, and no tools are known from before.
        """
        if not self._specs:
            await self._refresh()
        elif time.monotonic() - self._asked_at > self._fresh_s and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh_quietly())
        return self._specs

    @property
    def versions(self) -> dict[str, str]:
        """The version of each tool that is known and tells it."""
        return {spec.name: spec.version for spec in self._specs if spec.version}

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """Runs one tool to its end.

        Raises:
            InvalidArgumentError: The arguments do not fit the tool's schema.
            NotFoundError: The sandbox has no such tool any more.
            PagiError: The sandbox failed.
        """
        request = sandbox_pb2.ExecuteToolRequest(
            tool=call.name, arguments_json=call.arguments_json or "{}", effect_id=effect_id, session_id=session_id
        )
        # Whatever the tool does: the sandbox knows the effect by its id, and answers a repeat from its ledger.
        answer = await self._client.call(self._stub.ExecuteTool, request, timeout_s=self._timeout_s, repeatable=True)
        return tool_outcome_from_proto(answer)

    async def _refresh(self) -> None:
        answer = await self._client.call(
            self._stub.ListTools, sandbox_pb2.ListToolsRequest(), timeout_s=LIST_TIMEOUT_S, repeatable=True
        )
        self._specs = tuple(tool_spec_from_proto(tool) for tool in answer.tools)
        self._asked_at = time.monotonic()

    async def _refresh_quietly(self) -> None:
        try:
            await self._refresh()
        except PagiError as error:
            # The tools that are known stay; a call will say that the sandbox is away.
            log.info("the list of tools is not refreshed: %s", error.message)
        finally:
            self._asked_at = time.monotonic()
            self._refreshing = None
