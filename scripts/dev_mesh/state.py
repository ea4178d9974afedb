"""What a running harness leaves on disk: a lock, so that there is only one, and a file that says what it runs."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, TextIO

from dev_mesh.processes import ProcessId, is_alive


class MeshLock:
    """Held as long as a harness, or the guard that cleans up after it, lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        """Takes the lock unless another process has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="ascii")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def fileno(self) -> int:
        """The descriptor, to be handed to the guard: the lock is free when both have closed it."""
        assert self._file is not None, "the lock is not held"
        return self._file.fileno()

    def release(self) -> None:
        """Lets go."""
        if self._file is not None:
            self._file.close()
            self._file = None


class StateFile:
    """`data/run/mesh.json`: the harness and its services, for `--status` and `--stop`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the file in one step."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(state, indent=1), encoding="utf-8")
        draft.replace(self._path)

    def read(self) -> dict[str, Any]:
        """What was written last; empty where nothing was."""
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return {}
        return state if isinstance(state, dict) else {}

    def remove(self) -> None:
        """Says that nothing runs."""
        self._path.unlink(missing_ok=True)


def harness_of(state: dict[str, Any]) -> ProcessId | None:
    """The harness that wrote the state, where it lives."""
    return living(state.get("harness"))


def leftovers_of(state: dict[str, Any]) -> set[ProcessId]:
    """The services of the state that live."""
    return {process for service in state.get("services", ()) if (process := living(service.get("process")))}


def living(written: Any) -> ProcessId | None:
    """A process as it stands in the file, where it lives."""
    if not written:
        return None
    process = ProcessId(int(written[0]), int(written[1]))
    return process if is_alive(process) else None
