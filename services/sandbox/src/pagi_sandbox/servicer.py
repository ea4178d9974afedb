"""The gRPC edge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis import correlation

from pagi_sandbox.convert import (
    artifact_to_proto,
    file_list_to_proto,
    isolation_to_proto,
    outcome_to_proto,
    request_from_proto,
    spec_to_proto,
    stream_event_to_proto,
)
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.live import stream
from pagi_sandbox.domain.session_files import SessionFiles

if TYPE_CHECKING:
    import grpc

SERVICE = "pagi.sandbox.v1.ToolService"


class ToolServicer(sandbox_pb2_grpc.ToolServiceServicer):
    """Translates, and lets the sandbox do the rest."""

    def __init__(self, sandbox: Sandbox, files: SessionFiles) -> None:
        """Serves one sandbox and the files in its workspaces."""
        self._sandbox = sandbox
        self._files = files

    async def ExecuteTool(  # noqa: N802 the name on the wire
        self,
        request: pb.ExecuteToolRequest,
        context: grpc.aio.ServicerContext[pb.ExecuteToolRequest, Awaitable[pb.ExecuteToolResponse]],
    ) -> pb.ExecuteToolResponse:
        """Runs one tool to its end. A caller that goes away, or whose deadline passes, stops it."""
        return outcome_to_proto(await self._sandbox.execute(request_from_proto(request, correlation.current())))

    async def StreamTool(  # noqa: N802 the name on the wire
        self,
        request: pb.StreamToolRequest,
        context: grpc.aio.ServicerContext[pb.StreamToolRequest, AsyncIterator[pb.StreamToolResponse]],
    ) -> AsyncIterator[pb.StreamToolResponse]:
        """Runs one tool and gives what it prints as it comes. A caller that goes away stops it."""
        call = request_from_proto(request.call, correlation.current())
        async with aclosing(stream(partial(self._sandbox.execute, call))) as events:
            async for event in events:
                yield stream_event_to_proto(event)

    async def ListTools(  # noqa: N802 the name on the wire
        self,
        request: pb.ListToolsRequest,
        context: grpc.aio.ServicerContext[pb.ListToolsRequest, Awaitable[pb.ListToolsResponse]],
    ) -> pb.ListToolsResponse:
        """Every tool, with the schema of its arguments."""
        return pb.ListToolsResponse(tools=map(spec_to_proto, self._sandbox.tools()))

    async def GetIsolation(  # noqa: N802 the name on the wire
        self,
        request: pb.GetIsolationRequest,
        context: grpc.aio.ServicerContext[pb.GetIsolationRequest, Awaitable[pb.GetIsolationResponse]],
    ) -> pb.GetIsolationResponse:
        """What stands between a tool and the machine, and what a canary saw of it."""
        return isolation_to_proto(self._sandbox.isolation())

    async def ListFiles(  # noqa: N802 the name on the wire
        self,
        request: pb.ListFilesRequest,
        context: grpc.aio.ServicerContext[pb.ListFilesRequest, Awaitable[pb.ListFilesResponse]],
    ) -> pb.ListFilesResponse:
        """The files of a session's workspace."""
        tenant = correlation.current().tenant
        return file_list_to_proto(await self._files.list(tenant, request.session_id, request.path))

    async def DownloadFile(  # noqa: N802 the name on the wire
        self,
        request: pb.DownloadFileRequest,
        context: grpc.aio.ServicerContext[pb.DownloadFileRequest, AsyncIterator[pb.DownloadFileResponse]],
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        """One file in pieces; the first message says what it is."""
        tenant = correlation.current().tenant
        async with self._files.open(tenant, request.session_id, request.path) as (artifact, pieces):
            yield pb.DownloadFileResponse(file=artifact_to_proto(artifact))
            async for piece in pieces:
                yield pb.DownloadFileResponse(data=piece)
