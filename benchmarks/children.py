"""The processes that a run of the bench starts: they end with it, whatever ends it."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from dev_mesh.family import Family
from dev_mesh.guard import Guard
from dev_mesh.processes import ProcessId, end, identify

from benchmarks import ROOT

# What a child sees of this process's environment: nothing that changes what the services do.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH")
_GRACE_S = 8.0
_ANSWER_S = 60.0


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


class Children:
    """Starts processes, and ends all of them on leaving the block. A guard does it where this process is killed.

    Args:
        folder: For the logs, one file a process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._family = Family()
        self._lock = os.open(folder, os.O_RDONLY)
        self._guard = Guard(self._lock, self._family)
        self._running: dict[ProcessId, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(list(self._running))
        self._guard.dismiss()
        os.close(self._lock)

    def start(
        self, name: str, command: Sequence[str], variables: Mapping[str, str] | None = None, *, talks: bool = False
    ) -> Child:
        """Starts a process in the folder.

        Args:
            name: Of its log.
            command: Program and arguments.
            variables: Added to a small environment.
            talks: Whether it is spoken to over its standard input and output, see `Child.ask`.
        """
        environment = {key: value for key in _INHERITED if (value := os.environ.get(key))}
        log = self._folder / f"{name}.log"
        with log.open("ab") as file:
            popen = self._family.start(
                command,
                {**environment, "PYTHONUNBUFFERED": "1", **(variables or {})},
                self._folder,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else file,
                stderr=file,
            )
        process = identify(popen.pid) or ProcessId(popen.pid, 0)
        self._guard.watch(process)
        self._running[process] = popen
        return Child(name, process, popen, log)

    def start_module(self, name: str, module: str, *arguments: str) -> Child:
        """Starts one of our own modules, which talks."""
        paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
        command = (sys.executable, "-m", module, *arguments)
        return self.start(name, command, {"PYTHONPATH": os.pathsep.join(paths)}, talks=True)

    def end(self, processes: Sequence[ProcessId]) -> None:
        """Asks them to stop, and kills what does not."""
        end(processes, grace_s=_GRACE_S)
        for process in processes:
            popen = self._running.pop(process)
            for pipe in (popen.stdin, popen.stdout):
                if pipe:
                    pipe.close()
            popen.wait()
            self._guard.forget(process)


class Child:
    """A process that was started."""

    def __init__(self, name: str, process: ProcessId, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self._popen = popen
        self._log = log

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def ask(self, question: Mapping[str, Any]) -> Any:
        """Writes a line of JSON and waits for the answer, another.

        Raises:
            BenchError: It ended, or did not answer within a minute.
        """
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(question).encode() + b"\n")
        self._popen.stdin.flush()
        return self.listen()

    def listen(self) -> Any:
        """Waits for a line of JSON.

        Raises:
            BenchError: It ended, or said nothing within a minute.
        """
        assert self._popen.stdout is not None
        readable, _, _ = select.select([self._popen.stdout], [], [], _ANSWER_S)
        line = self._popen.stdout.readline() if readable else b""
        if not line:
            raise self.fault("ended" if readable else f"said nothing for {_ANSWER_S:g} s")
        return json.loads(line)

    def check(self) -> None:
        """Makes sure that it lives.

        Raises:
            BenchError: It ended.
        """
        if self._popen.poll() is not None:
            raise self.fault(f"ended with status {self._popen.returncode}")

    def fault(self, what: str) -> BenchError:
        """An error that shows what the process said last."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return BenchError("\n    ".join([f"{self.name} {what}; it said last:", *lines]))


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until(condition: Any, *, timeout_s: float, interval_s: float) -> bool:
    """Whether the condition held within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True
