"""Deletes directories that hostile code has filled."""

from __future__ import annotations

import os

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def delete(top: int, name: str) -> None:
    """Deletes what has a name in an open directory, with everything below it.

    Directories are first moved up beside each other, so that no depth of nesting needs a stack, many descriptors or a
    long path; one that was closed to its owner is opened. No link is followed.

    Args:
        top: a descriptor of the directory.
        name: in it; no path.

    Raises:
        OSError: it cannot be deleted; what was moved up may be left.
    """
    waiting = [name]
    while waiting:
        waiting += _delete(top, waiting.pop())


def _delete(top: int, name: str) -> list[str]:
    """Deletes one name; gives the names in `top` to which the directories in it were moved."""
    try:
        os.unlink(name, dir_fd=top)
        return []
    except (IsADirectoryError, PermissionError):
        pass  # Linux says the first of a directory, POSIX the second
    os.chmod(name, 0o700, dir_fd=top)
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    moved = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=directory)
                    continue
                # To move a directory is to write to it.
                os.chmod(entry.name, 0o700, dir_fd=directory)
                moved.append(f".{os.urandom(12).hex()}.deleted")
                os.rename(entry.name, moved[-1], src_dir_fd=directory, dst_dir_fd=top)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)
    return moved
