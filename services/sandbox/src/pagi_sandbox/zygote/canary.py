"""The canary: what a tool could reach is tried from inside the jail, by the same road as a tool.

Each attempt runs in a process of its own, for the filter may end it. `held` means that the attempt did no harm.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pagi_sandbox.zygote import kernel

NAME = ".canary"
_GOT_THROUGH = 7


def sing(targets: Mapping[str, Any]) -> dict[str, Any]:
    """Tries everything.

    Args:
        targets: "file" to read, "folder" to write in, "port" of a listener, "process" to signal, "abstract" socket.

    Returns:
        "works": what a tool needs and has not, empty where all is well; "seen": [attempt, held, detail] for each.
    """
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("read a file of the service", lambda: Path(targets["file"]).read_bytes()),
        ("write a file outside the workspace", lambda: Path(targets["folder"], "canary").write_bytes(b"x")),
        ("list another folder", lambda: os.listdir(targets["folder"])),  # noqa: PTH208 the shortest way
        ("read the environment of the service", lambda: Path(f"/proc/{targets['process']}/environ").read_bytes()),
        ("connect to 127.0.0.1 by TCP", lambda: _connect(("127.0.0.1", targets["port"]))),
        ("send to 127.0.0.1 by UDP", _send),
        ("connect to an abstract unix socket", lambda: _connect_unix("\0" + targets["abstract"])),
        ("signal the service", lambda: os.kill(targets["process"], 0)),
        ("trace the service", lambda: kernel.syscall("ptrace", 16, targets["process"], 0, 0)),
        ("mount a tmpfs", lambda: kernel.mount("tmpfs", ".", "tmpfs")),
        ("make a user namespace", lambda: kernel.syscall("unshare", 0x10000000)),
        ("become root", lambda: os.setuid(0) if os.getuid() else _keeps_capabilities()),
    ]
    return {"works": _works(), "seen": [[name, *_try(attempt)] for name, attempt in attempts]}


def _works() -> str:
    """What every tool needs: its workspace, a private folder, processes."""
    try:
        Path("canary").write_text("x")
        Path("canary").rename("canary.renamed")
        Path("canary.renamed").unlink()
        Path(os.environ["TMPDIR"], "canary").write_text("x")
        Path(os.environ["TMPDIR"], "canary").unlink()
        Path(os.__file__).read_bytes()
        left, right = socket.socketpair()
        left.close()
        right.close()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _try(attempt: Callable[[], object]) -> tuple[bool, str]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        with suppress(BaseException):
            status = _alone(attempt, writing)
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as pipe:
        said = pipe.read(500)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True, f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return os.WEXITSTATUS(status) != _GOT_THROUGH, said


def _alone(attempt: Callable[[], object], report: int) -> int:
    try:
        attempt()
    except OSError as error:
        os.write(report, f"{type(error).__name__}: {error.strerror}".encode())
        return 0
    os.write(report, b"it went through")
    return _GOT_THROUGH


def _connect(address: tuple[str, int]) -> None:
    with socket.socket() as client:
        client.settimeout(1)
        client.connect(address)


def _send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", 9))


def _connect_unix(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(address)


def _keeps_capabilities() -> None:
    """Raises where root has none: being user 0 is then only a number."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) == 0:
            raise PermissionError(1, "no capabilities")
