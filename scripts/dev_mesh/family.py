"""The harness's children: those it started, and those it inherits when a service dies (Linux only)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dev_mesh.processes import children, descendants, kill

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Family:
    """Starts processes and knows them apart from orphans, which come to this process instead of to init."""

    def __init__(self) -> None:
        self._own: set[int] = set()
        self._lock = threading.Lock()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None, **pipes: Any
    ) -> subprocess.Popen[bytes]:
        """Starts a process in a session of its own: Ctrl-C in the terminal goes to the harness alone.

        Raises:
            OSError: There is no such program.
        """
        with self._lock:  # or it would be taken for an orphan before it is known
            child = subprocess.Popen(command, env=dict(environment), cwd=folder, start_new_session=True, **pipes)
            self._own.add(child.pid)
        return child

    def reap(self) -> None:
        """Takes note of the orphans that have ended, which would stay as zombies otherwise."""
        with self._lock:
            for pid in children(os.getpid()) - self._own:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def end_orphans(self) -> int:
        """Kills every orphan, with what descends from it; returns how many were killed."""
        with self._lock:
            orphans = children(os.getpid()) - self._own
            killed = kill(descendants(orphans)) if orphans else set()
        self.reap()
        return len(killed)
