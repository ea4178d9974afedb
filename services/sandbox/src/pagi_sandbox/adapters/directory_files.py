"""Hands out the files of workspaces."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from pagi_sandbox.adapters.directory_walk import Walk, open_top, shown
from pagi_sandbox.adapters.openat2_files import DIRECTORY, open_below, open_regular
from pagi_sandbox.domain.errors import FilePathError, NoSuchFileError
from pagi_sandbox.domain.media_types import HEAD_BYTES, media_type
from pagi_sandbox.domain.model import Artifact

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_PIECE = 262_144
# A list stays far below the 16 MiB of a gRPC message, however long the names are.
_MOST_LISTED, _MOST_LISTED_BYTES = 10_000, 2 * 2**20


class DirectoryFiles:
    """A WorkspaceReader and a component."""

    def __init__(self) -> None:
        """Its threads are its own, so that no slow disk holds up anything else."""
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="files")

    async def start(self) -> None:
        """Has nothing to open."""

    async def stop(self) -> None:
        """Lets what runs end."""
        self._threads.shutdown()

    async def files(self, workspace: Path, parts: Sequence[str]) -> tuple[list[Artifact], bool]:
        """What is below a folder; see WorkspaceReader."""
        return await self._in_thread(self._files, workspace, parts)

    @asynccontextmanager
    async def open(self, workspace: Path, parts: Sequence[str]) -> AsyncIterator[tuple[Artifact, AsyncIterator[bytes]]]:
        """A file and its pieces; see WorkspaceReader."""
        opening = asyncio.get_running_loop().run_in_executor(self._threads, self._open, workspace, parts)
        try:
            descriptor, artifact = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread cannot be stopped: what it opens then is nobody's.
            opening.add_done_callback(_close_opened)
            raise
        try:
            yield artifact, self._pieces(descriptor, artifact.size_bytes)
        finally:
            os.close(descriptor)

    async def _pieces(self, descriptor: int, size: int) -> AsyncIterator[bytes]:
        # What is appended meanwhile is not part of it; what is cut off ends it early.
        offset = 0
        while offset < size:
            piece = await self._in_thread(os.pread, descriptor, min(_PIECE, size - offset), offset)
            if not piece:
                return
            offset += len(piece)
            yield piece

    async def _in_thread(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _files(self, workspace: Path, parts: Sequence[str]) -> tuple[list[Artifact], bool]:
        with _explained(parts), _opened(workspace) as top:
            folder = open_below(top, parts, DIRECTORY)
            try:
                return _listed(folder, "".join(f"{part}/" for part in parts))
            finally:
                os.close(folder)

    def _open(self, workspace: Path, parts: Sequence[str]) -> tuple[int, Artifact]:
        with _explained(parts), _opened(workspace) as top:
            descriptor, status = open_regular(top, parts)
            try:
                head = os.pread(descriptor, HEAD_BYTES, 0)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor, Artifact("/".join(parts), media_type(parts[-1], head), status.st_size)


def _close_opened(opening: asyncio.Future[tuple[int, Artifact]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])


def _listed(folder: int, prefix: str) -> tuple[list[Artifact], bool]:
    walk, size = Walk(_MOST_LISTED), 0
    listed: list[Artifact] = []
    for found in walk.below(folder, prefix):
        if not stat.S_ISREG(found.status.st_mode) or found.status.st_nlink > 1:
            continue
        path = shown(found.path)
        size += len(path)
        if size > _MOST_LISTED_BYTES:
            return sorted(listed, key=lambda one: one.path), True
        listed.append(Artifact(path, media_type(found.name, _head(found.directory, found.name)), found.status.st_size))
    return sorted(listed, key=lambda one: one.path), bool(walk.fault)


def _head(directory: int, name: str) -> bytes:
    try:
        descriptor, _ = open_regular(directory, [name])
    except OSError:
        return b""  # gone since, or closed to us: its name has to do
    try:
        return os.pread(descriptor, HEAD_BYTES, 0)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(workspace: Path) -> Iterator[int]:
    top = open_top(workspace)
    try:
        yield top
    finally:
        os.close(top)


_FAULTS = {
    errno.ENOTDIR: "has a part that is no directory",
    errno.ELOOP: "is or passes a link; links are not followed",
    errno.EISDIR: "is a directory",
    errno.EINVAL: "is no regular file",
    errno.ENXIO: "is no regular file",  # what the kernel says of a socket
    errno.EMLINK: "is a hard link, which is not handed out",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.EACCES: "is closed to the sandbox itself",
    errno.EWOULDBLOCK: "is held by another program",  # by a lease; nothing is waited for
}


@contextmanager
def _explained(parts: Sequence[str]) -> Iterator[None]:
    """Says in words why the system refused a path."""
    path = "/".join(parts)
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchFileError(path) from error
    except UnicodeEncodeError as error:
        raise FilePathError(path, "is no valid Unicode") from error
    except OSError as error:
        if error.errno not in _FAULTS:
            raise
        raise FilePathError(path, _FAULTS[error.errno]) from error
