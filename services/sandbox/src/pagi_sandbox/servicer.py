"""The gRPC edge."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis import correlation

from pagi_sandbox.convert import outcome_to_proto, request_from_proto, spec_to_proto
from pagi_sandbox.domain.execution import Sandbox

if TYPE_CHECKING:
    import grpc

SERVICE = "pagi.sandbox.v1.ToolService"


class ToolServicer(sandbox_pb2_grpc.ToolServiceServicer):
    """Translates, and lets the sandbox do the rest."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Serves one sandbox."""
        self._sandbox = sandbox

    async def ExecuteTool(  # noqa: N802 the name on the wire
        self,
        request: pb.ExecuteToolRequest,
        context: grpc.aio.ServicerContext[pb.ExecuteToolRequest, Awaitable[pb.ExecuteToolResponse]],
    ) -> pb.ExecuteToolResponse:
        """Runs one tool to its end. A caller that goes away, or whose deadline passes, stops it."""
        return outcome_to_proto(await self._sandbox.execute(request_from_proto(request, correlation.current())))

    async def ListTools(  # noqa: N802 the name on the wire
        self,
        request: pb.ListToolsRequest,
        context: grpc.aio.ServicerContext[pb.ListToolsRequest, Awaitable[pb.ListToolsResponse]],
    ) -> pb.ListToolsResponse:
        """Every tool, with the schema of its arguments."""
        return pb.ListToolsResponse(tools=map(spec_to_proto, self._sandbox.tools()))
