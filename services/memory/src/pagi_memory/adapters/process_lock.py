"""A lock beside a file or folder that one process owns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pagi_chassis.errors import FailedPreconditionError

# Of all of them at once: whoever is refused for one would be for the next.
REMEDY = (
    "Stop that memory service, or give this one a CHROMA_PATH, a MEMORY_DB_PATH and a HEART_DB_PATH of its own; "
    "several share sessions and playbooks by HEART_DATABASE_URL."
)


class ProcessLock:
    """Held until it is released or the process ends, however that ends.

    Args:
        path: What is owned; the lock is a file of this name with `.lock` behind it, which means nothing by itself.
        refusal: The error, by the process that has it.
    """

    def __init__(self, path: Path, refusal: Callable[[str], FailedPreconditionError]) -> None:
        self._path = path
        self._refusal = refusal
        self._lock: int | None = None

    def take(self) -> None:
        """Takes it, or raises the refusal where another process has it."""
        import fcntl

        # By another name it is the same one.
        path = self._path.resolve()
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(lock, 32).decode().strip()
            os.close(lock)
            raise self._refusal(owner or "unknown") from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock

    def release(self) -> None:
        """Lets it go, where it was taken."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
