"""Counts what workspaces hold."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pagi_sandbox.adapters.directory_walk import Walk, open_top, shown
from pagi_sandbox.adapters.openat2_files import open_regular
from pagi_sandbox.domain.media_types import HEAD_BYTES, media_type
from pagi_sandbox.domain.model import Artifact, Census, Stamp

MAX_ARTIFACTS = 100
_BLOCK = 512  # st_blocks counts these, whatever the file system
# Made by Python itself when a tool imports from the workspace: nobody asked for it.
_CACHE = "__pycache__"
# A tool that is its owner can take away everybody's rights to a workspace, its own and ours too.
_CLOSED = "it is closed to the sandbox"


class DirectoryCensus:
    """A WorkspaceCensus and a component. Its threads are its own, so that no slow disk holds up anything else."""

    def __init__(self, max_files: int) -> None:
        """A workspace may hold so many files and directories; one with more is not counted further."""
        self._max_files = max_files
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="census")

    async def start(self) -> None:
        """Has nothing to open."""

    async def stop(self) -> None:
        """Lets what runs end."""
        self._threads.shutdown()

    async def take(self, workspace: Path) -> Census:
        """What is there now; see WorkspaceCensus."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._take, workspace)

    async def take_after(self, workspace: Path, before: Census) -> tuple[Census, tuple[Artifact, ...]]:
        """What is there now, and what is new; see WorkspaceCensus."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._take_after, workspace, before)

    def _take(self, workspace: Path) -> Census:
        try:
            top = open_top(workspace)
        except FileNotFoundError:
            return Census(0, {})
        except PermissionError:
            return Census(0, {}, _CLOSED)
        try:
            return self._count(top)
        finally:
            os.close(top)

    def _take_after(self, workspace: Path, before: Census) -> tuple[Census, tuple[Artifact, ...]]:
        try:
            top = open_top(workspace)
        except FileNotFoundError:
            return Census(0, {}), ()
        except PermissionError:
            return Census(0, {}, _CLOSED), ()
        try:
            after = self._count(top)
            changed = (path for path, state in after.files.items() if before.files.get(path) != state)
            return after, tuple(_artifacts(top, changed))
        finally:
            os.close(top)

    def _count(self, top: int) -> Census:
        walk, files, used = Walk(self._max_files), dict[str, Stamp](), 0
        counted: set[int] = set()
        for found in walk.below(top):
            status = found.status
            if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                if status.st_ino in counted:
                    continue
                counted.add(status.st_ino)
            used += status.st_blocks * _BLOCK
            if stat.S_ISREG(status.st_mode):
                files[found.path] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return Census(used, files, walk.fault)


def _artifacts(top: int, paths: Iterable[str]) -> Iterable[Artifact]:
    wanted = (path for path in paths if _CACHE not in path.split("/"))
    for path in sorted(wanted)[:MAX_ARTIFACTS]:
        with suppress(OSError):  # gone since, or a hard link: not a file to hand out
            descriptor, status = open_regular(top, path.split("/"))
            try:
                head = os.read(descriptor, HEAD_BYTES)
            finally:
                os.close(descriptor)
            yield Artifact(shown(path), media_type(path, head), status.st_size)
