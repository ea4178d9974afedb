"""One service under supervision: started, watched until ready, started again when it dies."""

from __future__ import annotations

import contextlib
import enum
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dev_mesh.family import Family
from dev_mesh.processes import ProcessId, descendants, identify, kill
from dev_mesh.services import ServiceSpec

PROBE_INTERVAL_S = 0.05
SETTLED_S = 10.0  # a process that lived so long starts over with the shortest delay
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h, by which a service says that a restart does not help


class Phase(enum.Enum):
    """Where a service is in its life."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


class Watcher(Protocol):
    """Is told which processes exist, so that none outlives the harness."""

    def watch(self, process: ProcessId) -> None:
        """A process was started."""

    def forget(self, process: ProcessId) -> None:
        """It has ended."""


@dataclass(frozen=True)
class Reports:
    """What a supervised service calls from its own threads.

    Attributes:
        line: With the service's name and a line that it wrote.
        warn: With something that a person should know.
        changed: After every change of phase.
    """

    line: Callable[[str, str], None]
    warn: Callable[[str], None]
    changed: Callable[[], None]


class Supervised:
    """Keeps one service running until it is stopped.

    Args:
        spec: What to run.
        environment: Its variables.
        folder: Its working directory.
        log: A file that gets every line it writes.
        family: Starts the processes.
        watcher: Told of each process.
        reports: Where lines and changes go.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        family: Family,
        watcher: Watcher,
        reports: Reports,
    ) -> None:
        self.spec = spec
        self.phase = Phase.STARTING
        self.restarts = 0
        self.ready_after_s = 0.0
        self.last_lines: deque[str] = deque(maxlen=20)
        self.process: ProcessId | None = None
        self._environment = dict(environment)
        self._folder = folder
        self._log = log
        self._family = family
        self._watcher = watcher
        self._reports = reports
        self._was_ready = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name=spec.name, daemon=True)

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def expect_stop(self) -> None:
        """From now on the end of the process is wanted, and it is not started again."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Waits until the last process has been reaped."""
        self._thread.join(timeout_s)

    def _keep_running(self) -> None:
        quick_deaths = 0
        while not self._stopping.is_set():
            lived_s, code = self._run_once()
            if self._stopping.is_set():
                break
            quick_deaths = 0 if self.phase is Phase.READY and lived_s > SETTLED_S else quick_deaths + 1
            delay = RESTART_DELAYS_S[min(max(quick_deaths, 1), len(RESTART_DELAYS_S)) - 1]
            if self._gives_up(code, quick_deaths):
                self._enter(Phase.FAILED)
                return
            self._reports.warn(
                f"{self.spec.name} {_ending(code)}; starting it again{f' in {delay:g} s' if delay else ''}"
            )
            self.restarts += 1
            self._enter(Phase.RESTARTING)
            self._stopping.wait(delay)
        self._enter(Phase.STOPPED)

    def _gives_up(self, code: int, quick_deaths: int) -> bool:
        if not self._was_ready:
            why = "before it was ready"
        elif code == EXIT_CONFIGURATION:
            why = "because of its configuration"
        elif self.phase is not Phase.READY and quick_deaths > len(RESTART_DELAYS_S):
            why = f"{quick_deaths} times in a row without becoming ready"
        else:
            return False
        lines = "".join(f"\n    {line}" for line in self.last_lines) or " nothing"
        self._reports.warn(
            f"{self.spec.name} {_ending(code)} {why}; it is not started again.\n"
            f"   It is run by: {' '.join(self.spec.command)}\n   It said last:{lines}"
        )
        return True

    def _run_once(self) -> tuple[float, int]:
        """One life of the process: seconds and exit code (negative: the signal that ended it)."""
        started = time.monotonic()
        try:
            popen = self._family.start(
                self.spec.command,
                self._environment,
                self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            self.last_lines.append(str(error))
            return 0.0, 127
        # A process that has died already is known by its number until it is reaped.
        self.process = identify(popen.pid) or ProcessId(popen.pid, 0)
        self._watcher.watch(self.process)
        reader = threading.Thread(target=self._read, args=(popen,), name=f"{self.spec.name} output", daemon=True)
        reader.start()
        self._reports.changed()
        self._await_ready(popen, started)
        code = popen.wait()
        kill(descendants([popen.pid]))  # what a killed one leaves in its session: it could hold ports and files
        reader.join(timeout=0.2)  # longer only where an orphan holds the pipe, and a restart does not wait for that
        self._watcher.forget(self.process)
        return time.monotonic() - started, code

    def _await_ready(self, popen: subprocess.Popen[bytes], started: float) -> None:
        while popen.poll() is None and not self._stopping.is_set():
            if self.spec.probe():
                self.ready_after_s = time.monotonic() - started
                if self._was_ready:
                    self._reports.warn(f"{self.spec.name} is ready again after {self.ready_after_s:.1f} s")
                self._was_ready = True
                self._enter(Phase.READY)
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(PROBE_INTERVAL_S)

    def _read(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdout is not None
        with popen.stdout, self._log.open("ab") as log:
            for raw in popen.stdout:
                log.write(raw)
                log.flush()
                line = raw.decode(errors="replace").rstrip()
                self.last_lines.append(line)
                if not self.spec.quiet:
                    self._reports.line(self.spec.name, line)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._reports.changed()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
