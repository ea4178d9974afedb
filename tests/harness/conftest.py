from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from dev_mesh.processes import identify  # noqa: E402 - the scripts are no distribution


def eventually(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.01)


class Harness:
    """A harness in a process of its own, with fake services."""

    def __init__(self, root: Path, services: dict[str, str], ready_timeout_s: float) -> None:
        self.root = root
        self.pids = root / "pids"
        self.pids.mkdir(exist_ok=True)
        self.ports: dict[str, int] = {}
        self.text = ""
        described = []
        for name, faults in services.items():
            self.ports[name] = free_port()
            described.append(f"{name}:{self.ports[name]}:{faults}")
        driver = Path(__file__).with_name("driver.py")
        self.process = subprocess.Popen(
            [sys.executable, str(driver), str(root), str(self.pids), str(ready_timeout_s), *described],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.text += line

    def says(self, words: str) -> None:
        """Waits until the harness has said it."""
        try:
            eventually(lambda: words in self.text)
        except AssertionError:
            pytest.fail(f"{words!r} is not in what the harness said:\n{self.text}")

    def started(self) -> list[int]:
        """Every process that the services and their children ever were."""
        return [int(path.stem) for path in self.pids.iterdir()]

    def alive(self) -> list[int]:
        return [pid for pid in self.started() if identify(pid)]

    def wait(self) -> int:
        code = self.process.wait(timeout=30)
        self._reader.join(timeout=5)
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait()
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return eventually


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    """Starts a harness: `harness(alpha="", beta="child,deaf")`."""
    running: list[Harness] = []

    def start(*, ready_timeout_s: float = 20.0, **services: str) -> Harness:
        running.append(Harness(tmp_path, services, ready_timeout_s))
        return running[-1]

    yield start
    for one in running:
        one.end()
