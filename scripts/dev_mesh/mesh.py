"""Starts the services together, shows how far they are, keeps them running, and stops them in order."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dev_mesh.console import Console
from dev_mesh.errors import MeshError
from dev_mesh.family import Family
from dev_mesh.guard import Guard
from dev_mesh.probes import HttpProbe
from dev_mesh.processes import ProcessId, end, identify, kill
from dev_mesh.services import ServiceSpec
from dev_mesh.state import MeshLock, StateFile
from dev_mesh.supervised import Phase, Reports, Supervised

GRACE_S = 8.0
_TICK_S = 0.1


class Mesh:
    """The running services.

    Args:
        specs: What to run.
        environment: The variables that each service gets.
        root: The working directory of the services; logs and state go below its `data/`.
        lock: Held already; the guard shares it.
        state: Where `--status` reads.
        console: Where people read.
        signals: A number is put in for each signal to stop that arrives.
    """

    def __init__(
        self,
        specs: Sequence[ServiceSpec],
        environment: Mapping[str, str],
        root: Path,
        lock: MeshLock,
        state: StateFile,
        console: Console,
        signals: queue.SimpleQueue[int],
    ) -> None:
        self._console = console
        self._state = state
        self._signals = signals
        self._writing = threading.Lock()
        self._ready = False
        self._started = time.time()
        logs = root / "data" / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._family = Family()
        self._guard = Guard(lock.fileno(), self._family)
        reports = Reports(console.log, console.warn, self._save)
        self._services = [
            Supervised(spec, environment, root, logs / f"{spec.name}.log", self._family, self._guard, reports)
            for spec in specs
        ]

    def start(self, timeout_s: float) -> bool:
        """Starts everything at once and waits until all are ready.

        Returns:
            False where a signal to stop came first.

        Raises:
            MeshError: One ended, or was not ready in time; the text says which.
        """
        begun = time.monotonic()
        for service in self._services:
            service.start()
        told: set[str] = set()
        while True:
            self._tell_ready(told)
            waiting = [service for service in self._services if service.phase is not Phase.READY]
            if failed := [service.spec.name for service in waiting if service.phase is Phase.FAILED]:
                raise MeshError(f"{' and '.join(failed)} cannot start; see above")
            elapsed = time.monotonic() - begun
            if not waiting:
                break
            if elapsed > timeout_s:
                raise MeshError(_late(waiting, timeout_s))
            self._console.progress(
                f"   waiting for {', '.join(service.spec.name for service in waiting)} ({elapsed:.0f} s)"
            )
            if self._stop_wanted(_TICK_S):
                return False
        self._console.progress("")
        self._ready = True
        self._save()
        return True

    def watch(self) -> None:
        """Returns when a signal to stop has come."""
        while not self._stop_wanted(1.0):
            self._family.reap()
            self._guard.ensure()

    def stop(self) -> None:
        """Stops the users before the used; who is not gone after 8 s, or at a second signal, is killed."""
        self._console.progress("")
        for service in self._services:
            service.expect_stop()
        for tier in sorted({service.spec.tier for service in self._services}, reverse=True):
            group = [service for service in self._services if service.spec.tier == tier]
            self._end_together({service.process for service in group if service.process})
            for service in group:
                service.join(timeout_s=3.0)
        self._family.end_orphans()
        self._guard.dismiss()
        self._state.remove()

    def _end_together(self, processes: set[ProcessId]) -> None:
        ending = threading.Thread(target=lambda: self._tell_killed(end(processes, grace_s=GRACE_S)))
        ending.start()
        while ending.is_alive():
            if self._stop_wanted(0.05):
                kill(processes)
        ending.join()

    def _tell_killed(self, killed: set[ProcessId]) -> None:
        names = {service.process: service.spec.name for service in self._services}
        for process in killed:
            if name := names.get(process):
                self._console.warn(f"{name} did not stop within {GRACE_S:g} s and was killed")

    def _stop_wanted(self, wait_s: float) -> bool:
        try:
            self._signals.get(timeout=wait_s)
        except queue.Empty:
            return False
        return True

    def _tell_ready(self, told: set[str]) -> None:
        for service in self._services:
            if service.phase is Phase.READY and service.spec.name not in told:
                told.add(service.spec.name)
                self._console.say(f"   {service.spec.name} is ready after {service.ready_after_s:.1f} s")

    def _save(self) -> None:
        """Writes down what runs; called from the services' threads too."""
        with self._writing:
            harness = identify(os.getpid())
            assert harness is not None
            self._state.write(
                {
                    "harness": [harness.pid, harness.start],
                    "started": self._started,
                    "ready": self._ready,
                    "services": [_written(service) for service in self._services],
                }
            )


def _written(service: Supervised) -> dict[str, Any]:
    probe = service.spec.probe
    return {
        "name": service.spec.name,
        "process": [service.process.pid, service.process.start] if service.process else None,
        "phase": service.phase.value,
        "restarts": service.restarts,
        "ports": [[port.purpose, port.number] for port in service.spec.ports],
        "probe": ["http" if isinstance(probe, HttpProbe) else "redis", probe.host, probe.port],
    }


def _late(waiting: Sequence[Supervised], timeout_s: float) -> str:
    told = []
    for service in waiting:
        lines = "".join(f"\n    {line}" for line in service.last_lines) or " nothing"
        told.append(f"{service.spec.name} is not ready after {timeout_s:g} s. It said last:{lines}")
    return "\n".join(told)
