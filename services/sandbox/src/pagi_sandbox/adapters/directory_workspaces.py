"""Workspaces as directories."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

# 255 bytes is what file systems take; longer names keep their beginning, for people, and get a hash.
_LONGEST_NAME = 160
_OWNERS = 0o700
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
        path = self._path(tenant, session_id)
        try:
            # Marks it as used, for the removal by age.
            os.utime(path)
            # A tool that owns it can close it to everybody; the next call shall have it all the same.
            if path.stat().st_mode & _OWNERS != _OWNERS:
                path.chmod(_OWNERS)
        except FileNotFoundError:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except PermissionError:
            pass  # it belongs to another user; whether the tool may use it is the jail's to say
        return path

    def mark(self) -> str:
        """A random name that stays with the directory, made where there is none; no other directory has it.

        Raises:
            OSError: it can be neither read nor made.
        """
        place = self._top / ".mark"
        self._top.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not place.exists():
            fresh = self._top / f".mark-{os.urandom(8).hex()}"
            fresh.write_text(os.urandom(16).hex(), encoding="ascii")
            # Of two that make it at once, the first counts.
            with suppress(FileExistsError):
                os.link(fresh, place)
            fresh.unlink()
        return place.read_text(encoding="ascii")

    def find(self, tenant: str, session_id: str) -> Path | None:
        """The session's directory, where there is one; see Workspaces."""
        path = self._path(tenant, session_id)
        return path if path.is_dir() else None

    def unused_since(self, moment: float) -> list[Path]:
        """The workspaces that nothing has used after a time (seconds since 1970).

        A directory's change time tells: `directory` moves it, so does every new name, and no tool can set it.
        """
        return [
            session
            for tenant in _directories(self._top, "t-")
            for session in _directories(tenant, "s-")
            if _changed_at(session) < moment
        ]

    def take_away(self, workspace: Path, moment: float) -> bool:
        """Moves a workspace out of reach in one step, unless it was used after that time; then False.

        What is moved waits in `removed`.
        """
        if _changed_at(workspace) >= moment:
            return False
        self.removed.mkdir(mode=0o700, exist_ok=True)
        workspace.rename(self.removed / os.urandom(12).hex())
        return True

    @property
    def removed(self) -> Path:
        """Where workspaces go that were taken away, to be deleted."""
        return self._top / ".removed"

    def _path(self, tenant: str, session_id: str) -> Path:
        return self._top / f"t-{_encode(tenant)}" / f"s-{_encode(session_id)}"


def _directories(parent: Path, prefix: str) -> list[Path]:
    with suppress(FileNotFoundError), os.scandir(parent) as entries:
        return [Path(one) for one in entries if one.name.startswith(prefix) and one.is_dir(follow_symlinks=False)]
    return []


def _changed_at(directory: Path) -> float:
    try:
        return directory.stat().st_ctime
    except FileNotFoundError:
        return float("inf")  # gone since: nothing to take away


def _encode(name: str) -> str:
    raw = name.encode("utf-8", "surrogatepass")
    safe = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
    if len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[:80]}%~{hashlib.sha256(raw).hexdigest()}"
