"""The fork server's own folder for mount points and, without mounts, for the private /tmp of each slot."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from pagi_sandbox.zygote import claims

# Not by the module tempfile: what that caches, every tool would have.
_TOP = "/tmp"  # noqa: S108 the folder in it is ours alone


def make() -> str:
    """A folder that others may pass through and not list; takes away what fork servers that are gone left behind."""
    top = Path(_TOP)
    for old in claims.abandoned(top):
        remove(str(old))
    folder = top / claims.new_name()
    # Fails where somebody has put something there: we never go on with what is not ours. Held until our end.
    claims.make(folder, 0o711)
    folder.chmod(0o711)
    return str(folder)


def remove(folder: str) -> None:
    """Takes the folder away with all that is in it."""
    with suppress(OSError):
        empty(folder)
        Path(folder).rmdir()


def empty(folder: str) -> None:
    """Takes away what is in a folder in which nothing runs any more.

    It follows no links, and is no deeper itself for a deep tree: folders are pulled up to the top, then emptied.
    """
    pulled = 0
    while True:
        with os.scandir(folder) as found:
            entries = list(found)
        if not entries:
            return
        for entry in entries:
            if not stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
                Path(entry.path).unlink()
                continue
            Path(entry.path).chmod(0o700)
            with os.scandir(entry.path) as found:
                below = list(found)
            for one in below:
                if one.is_dir(follow_symlinks=False):
                    # Its ".." changes, for which it must be writable.
                    Path(one.path).chmod(0o700)
                    Path(one.path).rename(Path(folder, f"{pulled}.pulled-up"))
                    pulled += 1
                else:
                    Path(one.path).unlink()
            Path(entry.path).rmdir()
