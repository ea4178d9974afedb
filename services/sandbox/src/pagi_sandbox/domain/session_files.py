"""The files of a session's workspace, for people and programs outside the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pagi_sandbox.domain.disk import DiskPolicy
from pagi_sandbox.domain.errors import FilePathError, NoSuchFileError
from pagi_sandbox.domain.model import Artifact, FileList
from pagi_sandbox.domain.ports import WorkspaceCensus, WorkspaceReader, Workspaces
from pagi_sandbox.domain.session import check_session_id

MAX_DEPTH = 64
MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """Lists them and hands them out. A session without a workspace has no files, and gets none by being asked for."""

    workspaces: Workspaces
    reader: WorkspaceReader
    census: WorkspaceCensus
    policy: DiskPolicy

    async def list(self, tenant: str, session_id: str, path: str = "") -> FileList:
        """The regular files below a folder, by path.

        Raises:
            SessionIdError: the id cannot name a session.
            FilePathError: the path leads out of the workspace or is no folder.
            NoSuchFileError: there is no such folder.
        """
        check_session_id(session_id)
        parts = _parts(path)
        workspace = self.workspaces.find(tenant, session_id)
        if workspace is None:
            if parts:
                raise NoSuchFileError(path)
            return FileList((), 0, self.policy.quota_bytes)
        files, truncated = await self.reader.files(workspace, parts)
        used = (await self.census.take(workspace)).used_bytes
        return FileList(tuple(files), used, self.policy.quota_bytes, truncated)

    @asynccontextmanager
    async def open(
        self, tenant: str, session_id: str, path: str
    ) -> AsyncIterator[tuple[Artifact, AsyncIterator[bytes]]]:
        """One file, and its bytes in pieces.

        Raises:
            SessionIdError: the id cannot name a session.
            FilePathError: the path leads out of the workspace or is no regular file.
            NoSuchFileError: there is no such file.
        """
        check_session_id(session_id)
        parts = _parts(path)
        if not parts:
            raise FilePathError(path, "names no file")
        workspace = self.workspaces.find(tenant, session_id)
        if workspace is None:
            raise NoSuchFileError(path)
        async with self.reader.open(workspace, parts) as opened:
            yield opened


def _parts(path: str) -> list[str]:
    if "\0" in path:
        raise FilePathError(path, "holds NUL")
    if path.startswith("/"):
        raise FilePathError(path, "is absolute; paths are relative to the workspace")
    if len(path) > MAX_LENGTH:
        raise FilePathError(path, f"has {len(path)} characters; at most {MAX_LENGTH} are allowed")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise FilePathError(path, 'holds ".."; paths cannot leave the workspace')
    if len(parts) > MAX_DEPTH:
        raise FilePathError(path, f"has {len(parts)} parts; at most {MAX_DEPTH} are allowed")
    return parts
