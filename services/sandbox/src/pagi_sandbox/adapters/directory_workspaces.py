"""Workspaces as directories."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# 255 bytes is what file systems take; longer names keep their beginning, for people, and get a hash.
_LONGEST_NAME = 160
_UNSAFE = re.compile(rb"[^a-z0-9_-]")


class DirectoryWorkspaces:
    """`<top>/t-<tenant>/s-<session>`.

    Everything but lower case letters, digits, "_" and "-" is written as "%" and two hex digits, so that no name means
    something to the file system ("..", a separator) and no two names fall together where case does not count. The
    prefixes give a tenant without a name a directory too, which no other tenant can have.
    """

    def __init__(self, top: Path) -> None:
        """Made where it is missing."""
        self._top = top.absolute()

    def directory(self, tenant: str, session_id: str) -> Path:
        """The session's directory; see Workspaces. Nothing below it is ever touched from here."""
        path = self._top / f"t-{_encode(tenant)}" / f"s-{_encode(session_id)}"
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


def _encode(name: str) -> str:
    raw = name.encode("utf-8", "surrogatepass")
    safe = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
    if len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[:80]}%~{hashlib.sha256(raw).hexdigest()}"
