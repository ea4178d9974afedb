"""The files of sessions' workspaces behind the sandbox's gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis.errors import UnavailableError
from pagi_chassis.grpc_client import GrpcClient

from pagi_planner.convert import file_from_proto, file_list_from_proto
from pagi_planner.domain.model import FileList, WorkspaceFile

LIST_TIMEOUT_S = 10.0
# A large file over a slow line.
DOWNLOAD_TIMEOUT_S = 600.0


class SandboxFiles:
    """Asks the sandbox. See the port for what is raised."""

    def __init__(self, client: GrpcClient) -> None:
        self._client = client
        self._stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)

    async def list(self, session_id: str, path: str = "") -> FileList:
        """The files below a folder."""
        request = sandbox_pb2.ListFilesRequest(session_id=session_id, path=path)
        answer = await self._client.call(self._stub.ListFiles, request, timeout_s=LIST_TIMEOUT_S, repeatable=True)
        return file_list_from_proto(answer)

    @asynccontextmanager
    async def open(self, session_id: str, path: str) -> AsyncIterator[tuple[WorkspaceFile, AsyncIterator[bytes]]]:
        """One file and its pieces; leaving the context ends the transfer."""
        request = sandbox_pb2.DownloadFileRequest(session_id=session_id, path=path)
        stream: Any = self._client.stream(self._stub.DownloadFile, request, timeout_s=DOWNLOAD_TIMEOUT_S)
        async with aclosing(stream) as messages:
            async for first in messages:
                yield file_from_proto(cast(sandbox_pb2.DownloadFileResponse, first).file), _pieces(messages)
                return
            raise UnavailableError("the sandbox did not say what the file is")


async def _pieces(messages: AsyncIterator[sandbox_pb2.DownloadFileResponse]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message.data
