"""Outlives the harness for a moment: when it is gone without a word (kill -9), ends what it had started.

Runs as a process of its own. Its arguments are what runs already, as PID:START; it reads lines from standard input:
`+PID:START` and `-PID:START` for a service that was started or has ended, `bye` when all has been stopped in order.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

from dev_mesh.family import Family
from dev_mesh.processes import ProcessId, end

GRACE_S = 8.0


class Guard:
    """The harness's side.

    Args:
        family: Starts the guard.
        lock: The descriptor of the mesh's lock, which the guard holds until it has cleaned up.
    """

    def __init__(self, lock: int, family: Family) -> None:
        self._lock = lock
        self._family = family
        self._watched: set[ProcessId] = set()
        self._mutex = threading.Lock()
        self._process = self._start()

    def watch(self, process: ProcessId) -> None:
        """This process is to be ended when the harness is gone."""
        with self._mutex:
            self._watched.add(process)
            self._tell(f"+{_written(process)}")

    def forget(self, process: ProcessId) -> None:
        """This process has ended."""
        with self._mutex:
            self._watched.discard(process)
            self._tell(f"-{_written(process)}")

    def ensure(self) -> None:
        """Starts the guard again where somebody has killed it."""
        with self._mutex:
            if self._process.poll() is not None:
                self._restart()

    def dismiss(self) -> None:
        """Everything has been stopped; the guard may go."""
        with self._mutex:
            self._tell("bye")
            self._process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        return self._family.start(
            [sys.executable, "-S", "-m", "dev_mesh.guard", *map(_written, self._watched)],
            {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(self._lock,),
        )

    def _tell(self, line: str) -> None:
        try:
            self._send(line)
        except BrokenPipeError:
            self._restart()
            self._send(line)

    def _restart(self) -> None:
        self._process.communicate()
        self._process = self._start()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()


def main() -> int:
    """The guard's side; returns the exit status."""
    watched = {_read(text) for text in sys.argv[1:]}
    for line in sys.stdin:
        if line.strip() == "bye":
            return 0
        (watched.add if line[0] == "+" else watched.discard)(_read(line[1:]))
    with contextlib.suppress(OSError):  # the terminal may be gone as well
        os.write(2, b"The harness was killed; stopping what it had started.\n")
    end(watched, grace_s=GRACE_S)
    return 0


def _written(process: ProcessId) -> str:
    return f"{process.pid}:{process.start}"


def _read(text: str) -> ProcessId:
    pid, _, start = text.partition(":")
    return ProcessId(int(pid), int(start))


if __name__ == "__main__":
    sys.exit(main())
