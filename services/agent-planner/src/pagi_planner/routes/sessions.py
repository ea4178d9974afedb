"""`GET /sessions/{session_id}/files` and one file of them: what the agent's tools left in a session's workspace."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from pagi_planner.domain.ports import SessionFiles
from pagi_planner.routes.file_bodies import FileListBody
from pagi_planner.routes.problem_responses import problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from pagi_planner.domain.model import WorkspaceFile

_THE_FILE = {"description": "The file as it is", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
# What a tool wrote is not ours to vouch for: a browser saves it, and runs nothing in it as a part of this site.
_SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "Cache-Control": "no-store"}


def router(files: SessionFiles) -> APIRouter:
    """The routes that hand out files."""
    routes = APIRouter(prefix="/sessions", tags=["sessions"])

    @routes.get(
        "/{session_id}/files",
        operation_id="list_files",
        summary="The files of a session",
        responses=problems(401, 404, 422, 500, 503, 504),
    )
    async def find(
        session_id: str,
        path: Annotated[str, Query(max_length=4096, description="Only what is below this folder")] = "",
    ) -> FileListBody:
        """Lists the files that tools left in the session's workspace; a session without any has an empty list."""
        return FileListBody.from_domain(session_id, await files.list(session_id, path))

    @routes.get(
        "/{session_id}/files/{path:path}",
        operation_id="download_file",
        summary="One file of a session",
        response_class=StreamingResponse,
        responses={**problems(401, 404, 422, 500, 503, 504), 200: _THE_FILE},
    )
    async def download(session_id: str, path: str) -> _Download:
        """Sends the file, to be saved: its media type is a guess, and nothing in it is to be trusted."""
        context = AsyncExitStack()
        return _Download(*await context.enter_async_context(files.open(session_id, path)), context)

    return routes


class _Download(StreamingResponse):
    """A file on its way; what it holds open is let go of however the transfer ends."""

    def __init__(self, file: WorkspaceFile, pieces: AsyncIterator[bytes], context: AsyncExitStack) -> None:
        name = quote(file.path.rpartition("/")[2], safe="")
        headers = {
            **_SAFE,
            "Content-Length": str(file.size_bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        }
        super().__init__(pieces, media_type=file.media_type, headers=headers)
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._context:
            await super().__call__(scope, receive, send)
