"""Whether a port is free, and who holds it where it is not."""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from dev_mesh.processes import command_line

_LISTENING = "0A"  # TCP_LISTEN in include/net/tcp_states.h
_SHOWN = 80


@dataclass(frozen=True)
class Port:
    """A port that a service listens on.

    Attributes:
        purpose: What is spoken there: HTTP, gRPC, Redis.
        variable: The environment variable that changes it.
        number: The port.
    """

    purpose: str
    variable: str
    number: int


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT does not count
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def complaint(service: str, port: Port) -> str:
    """What a person reads about a taken port: which, by whom, and which variable changes it."""
    other = next((number for number in range(port.number + 10, 65_536, 10) if is_free(number)), port.number)
    return (
        f"Port {port.number} ({service}, {port.purpose}) is taken by {holder(port.number)}.\n"
        f"    End that process, or choose another port: {port.variable}={other} (in the environment or in .env)"
    )


def holder(port: int) -> str:
    """The process that listens on a port, for people."""
    inodes = _listening_inodes(port)
    for entry in Path("/proc").glob("[0-9]*") if inodes else ():
        pid = int(entry.name)
        if _holds(entry / "fd", inodes):
            command = command_line(pid)
            return f"pid {pid}" + (f" ({_short(command)})" if command else "")
    return "another process (not visible to this user)"


def _short(command: str) -> str:
    """A command line without the folders in it, which are long and say little."""
    return re.sub(r"(?:/[^/\s]*)+/", "", command)[:_SHOWN]


def _listening_inodes(port: int) -> set[str]:
    wanted = f"{port:04X}"
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[1].rpartition(":")[2] == wanted and fields[3] == _LISTENING:
                found.add(f"socket:[{fields[9]}]")
    return found


def _holds(descriptors: Path, inodes: set[str]) -> bool:
    try:
        entries = list(descriptors.iterdir())
    except OSError:
        return False  # another user's process, or one that has just gone
    for entry in entries:
        try:
            if str(entry.readlink()) in inodes:
                return True
        except OSError:
            continue  # closed in between
    return False
