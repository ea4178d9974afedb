"""Servers of the Model Context Protocol, as an operator configures them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerJail:
    """What a server may do that is started here, beside reading the system's programs and libraries.

    Attributes:
        network: whether it may connect to anything over TCP, and ask name servers.
        read: files and directories that it may read.
        write: those that it may also change.
        memory_mb: MiB of memory for each of its processes; for all together where the system counts them.
        disk_mb: MiB that its private directory may hold.
    """

    network: bool = True
    read: Sequence[str] = ()
    write: Sequence[str] = ()
    memory_mb: int = 1024
    disk_mb: int = 1024


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where and as whom servers run that are started here; the same for all of them.

    Attributes:
        homes: in it each has its private directory.
        users: first and last of the user numbers that they get where the service is root; None: all have the service's.
        cgroup: a delegated control group; empty: one is looked for.
        minimum_profile: under less, none is started.
    """

    homes: Path
    users: tuple[int, int] | None = None
    cgroup: str = ""
    minimum_profile: str = "L0"

    def users_of(self, names: Sequence[str]) -> dict[str, int]:
        """A number for each server, which no other of them has; it stays the same as long as none of them clash.

        Raises:
            ValueError: there are more servers than numbers.
        """
        if self.users is None:
            return dict.fromkeys(names, 0)
        first, last = self.users
        if len(names) > last - first + 1:
            raise ValueError(f"there are {len(names)} MCP servers, and {last - first + 1} numbers in SANDBOX_MCP_UIDS")
        found: dict[str, int] = {}
        for name in sorted(names):
            digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
            number = first + int.from_bytes(digest, "big") % (last - first + 1)
            while number in found.values():
                number = first if number == last else number + 1
            found[name] = number
        return found


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
        approval: names of its tools of which a person has to allow each call; "*" stands for any characters.
    """

    name: str
    command: str = ""
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    approval: Sequence[str] = ()
    jail: ServerJail = field(default_factory=ServerJail)
