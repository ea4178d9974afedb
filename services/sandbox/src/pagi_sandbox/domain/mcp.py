"""Servers of the Model Context Protocol, as an operator configures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerJail:
    """What a server may do that is started here, beside reading the system's programs and libraries.

    Attributes:
        network: whether it may connect to anything over TCP, and ask name servers.
        read: files and directories that it may read.
        write: those that it may also change.
        memory_mb: MiB of memory for each of its processes.
    """

    network: bool = True
    read: Sequence[str] = ()
    write: Sequence[str] = ()
    memory_mb: int = 1024


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server: either started here with a command, or reached at a URL.

    Attributes:
        name: the first part of its tools' names.
        command: the program; empty where there is a URL.
        env: the only variables that it gets beside PATH, HOME, TMPDIR and LANG.
        cwd: where it is started; a private directory where it is empty.
        url: of the streamable HTTP endpoint.
        headers: sent with every request.
    """

    name: str
    command: str = ""
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    jail: ServerJail = field(default_factory=ServerJail)
