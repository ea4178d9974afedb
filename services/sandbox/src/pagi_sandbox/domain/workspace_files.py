"""Files below one directory, which no path, link or name leads out of.

Every step of a path is opened relative to the directory before it with O_NOFOLLOW, so a link that is swapped in
while we walk is refused too (checking a resolved path first and opening it later is not enough: measured, such
checks leak). "..", absolute paths and NUL are refused by their letters. Links are never followed, not even those
that stay inside: what they mean could change between two calls.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pagi_sandbox.domain.deletion import delete
from pagi_sandbox.domain.tool import ToolFailedError

MAX_DEPTH = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that nobody writes to must not hang.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a workspace: path relative to its top, kind, bytes, seconds since 1970."""

    path: str
    kind: str
    size: int
    modified: float


class WorkspaceFiles:
    """Reads, writes and lists below one directory."""

    def __init__(self, top: Path) -> None:
        """`top` is trusted; what is below it is not."""
        self._top = top

    def read(self, path: str, offset: int, limit: int) -> tuple[bytes, int]:
        """Part of a regular file.

        Args:
            path: relative to the top.
            offset: the first byte.
            limit: at most so many bytes.

        Returns:
            The bytes, and the size of the whole file.

        Raises:
            ToolFailedError: it is missing, no regular file, or the path leads out.
        """
        parts = self._parts(path)
        if not parts:
            raise ToolFailedError(f"{path!r} is a directory; list_files shows what is in it")
        with self._parent(path, parts, make=False) as parent, _explained(path):
            descriptor = os.open(parts[-1], _READ, dir_fd=parent)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise ToolFailedError(f"{path!r} is a {_kind(status.st_mode)}, not a file")
                if status.st_nlink > 1:
                    # A hard link's other name may be a file that does not belong to this session.
                    raise ToolFailedError(f"{path!r} is a hard link, which is not read; copy the file instead")
                file.seek(offset)
                return file.read(limit), status.st_size

    def write(self, path: str, content: bytes) -> bool:
        """Replaces a file as a whole, or makes it with the directories it needs.

        The content goes to a new name first and takes the place of the old file in one step: a killed call leaves
        the old content or the new, and a link at that name is replaced, never written through.

        Returns:
            True where the file is new.

        Raises:
            ToolFailedError: the path leads out, names a directory, or there is no room.
        """
        parts = self._parts(path)
        if not parts:
            raise ToolFailedError(f"{path!r} names no file")
        with self._parent(path, parts, make=True) as parent, _explained(path):
            new = not _exists(parts[-1], parent)
            temporary = f".{os.urandom(8).hex()}.part"
            descriptor = os.open(temporary, _WRITE, 0o644, dir_fd=parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                os.replace(temporary, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                os.unlink(temporary, dir_fd=parent)
                raise
            return new

    def delete(self, path: str) -> bool:
        """Deletes a file, or a directory with everything below it; a link goes, never what it points to.

        Returns:
            False where there was nothing.

        Raises:
            ToolFailedError: the path leads out, or names the workspace itself.
        """
        parts = self._parts(path)
        if not parts:
            raise ToolFailedError(f"{path!r} is the workspace itself; delete what is in it")
        try:
            with self._parent(path, parts, make=False) as parent, _explained(path):
                if not _exists(parts[-1], parent):
                    return False
                delete(parent, parts[-1])
                return True
        except ToolFailedError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False  # nor is the directory there that it would be in
            raise

    def entries(self, path: str, *, recursive: bool, limit: int) -> tuple[list[Entry], bool]:
        """What is in a directory, sorted by path.

        Returns:
            At most `limit` entries, and whether there are more.

        Raises:
            ToolFailedError: it is missing, no directory, or the path leads out.
        """
        parts = self._parts(path)
        found: list[Entry] = []
        with self._parent(path, [*parts, ""], make=False) as directory, _explained(path):
            for entry in _walk(directory, "/".join(parts), MAX_DEPTH if recursive else 1):
                if len(found) == limit:
                    return sorted(found, key=lambda one: one.path), True
                found.append(entry)
        return sorted(found, key=lambda one: one.path), False

    def _parts(self, path: str) -> list[str]:
        if "\0" in path:
            raise ToolFailedError("a path cannot hold NUL")
        if path.startswith("/"):
            raise ToolFailedError(f"{path!r} is absolute; paths are relative to the workspace")
        parts = [part for part in path.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise ToolFailedError(f'{path!r} holds ".."; paths cannot leave the workspace')
        if len(parts) > MAX_DEPTH:
            raise ToolFailedError(f"the path has {len(parts)} parts, at most {MAX_DEPTH} are allowed")
        return parts

    @contextmanager
    def _parent(self, path: str, parts: list[str], *, make: bool) -> Iterator[int]:
        """The open directory that holds the last part."""
        current = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                with _explained(path):
                    following = _enter(part, current, make=make)
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)


def _enter(part: str, parent: int, *, make: bool) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    # Where someone else makes it meanwhile, opening it decides.
    with suppress(FileExistsError):
        os.mkdir(part, 0o755, dir_fd=parent)
    return os.open(part, _DIRECTORY, dir_fd=parent)


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _walk(directory: int, prefix: str, depth: int) -> Iterator[Entry]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # gone since we read the directory
        name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        path = f"{prefix}/{name}" if prefix else name
        yield Entry(path, _kind(status.st_mode), status.st_size, status.st_mtime)
        if depth > 1 and stat.S_ISDIR(status.st_mode):
            yield from _walk_below(entry.name, directory, path, depth - 1)


def _walk_below(name: str, parent: int, path: str, depth: int) -> Iterator[Entry]:
    try:
        below = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return  # gone, replaced by a link or closed to us: it is listed, what is below it is not
    try:
        yield from _walk(below, path, depth)
    finally:
        os.close(below)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "special file"


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Says in words why the system refused a path."""
    try:
        yield
    except FileNotFoundError as error:
        raise ToolFailedError(f"{path!r} does not exist in the workspace") from error
    except NotADirectoryError as error:
        raise ToolFailedError(f"a part of {path!r} is a file or a link, not a directory") from error
    except IsADirectoryError as error:
        raise ToolFailedError(f"{path!r} is a directory") from error
    except OSError as error:
        if error.errno == errno.ELOOP:  # O_NOFOLLOW met a link
            raise ToolFailedError(f"{path!r} is or passes a link; links are not followed") from error
        raise ToolFailedError(f"{path!r}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise ToolFailedError(f"{path!r} is no valid Unicode") from error
