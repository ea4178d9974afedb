"""Goes through a workspace, in bounded time and without following anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pagi_sandbox.adapters.openat2_files import DIRECTORY

MAX_DEPTH = 64


class Found(NamedTuple):
    """A name: its path as the file system has it, its state, and the open directory that holds it."""

    path: str
    name: str
    status: os.stat_result
    directory: int


@dataclass(slots=True)
class Walk:
    """One way through a directory.

    Attributes:
        most: names to look at.
        fault: why not everything was seen; empty where it was.
    """

    most: int
    fault: str = ""
    _seen: int = field(default=0, init=False)

    def below(self, directory: int, prefix: str = "", depth: int = 1) -> Iterator[Found]:
        """Every name below an open directory; stops at the first fault."""
        with os.scandir(directory) as entries:
            for entry in entries:
                self._seen += 1
                if self._seen > self.most:
                    self.fault = f"it holds more than {self.most} files and directories"
                    return
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone since
                path = f"{prefix}{entry.name}"
                yield Found(path, entry.name, status, directory)
                if stat.S_ISDIR(status.st_mode):
                    yield from self._into(entry.name, directory, path, depth)
                if self.fault:
                    return

    def _into(self, name: str, parent: int, path: str, depth: int) -> Iterator[Found]:
        if depth == MAX_DEPTH:
            self.fault = f"its directories are nested deeper than {MAX_DEPTH}"
            return
        try:
            directory = os.open(name, DIRECTORY, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return  # gone since, or replaced
        except OSError as error:
            self.fault = f"its directory {shown(path)[:200]!r} cannot be read: {error.strerror}"
            return
        try:
            yield from self.below(directory, f"{path}/", depth + 1)
        finally:
            os.close(directory)


def open_top(workspace: Path) -> int:
    """A descriptor of the workspace itself, whose path is ours.

    Raises:
        FileNotFoundError: it is not there.
        PermissionError: it is closed to us, and not ours to open.
    """
    try:
        return os.open(workspace, DIRECTORY)
    except PermissionError:
        # A tool that runs as our own user can take away everybody's rights to it; they come back here.
        workspace.chmod(0o700)
        return os.open(workspace, DIRECTORY)


def shown(path: str) -> str:
    """For people: a name need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
