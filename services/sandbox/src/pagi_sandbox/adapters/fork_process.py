"""Starts the fork server's process and speaks with it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pagi_chassis.errors import UnavailableError

from pagi_sandbox.adapters.entry_point_tools import ToolReference
from pagi_sandbox.adapters.fork_orders import Users
from pagi_sandbox.domain.model import Isolation, Layer, LeftOut, Observation, ToolSpec
from pagi_sandbox.domain.tool import Effects
from pagi_sandbox.domain.tools import BuiltInOptions
from pagi_sandbox.zygote import wire

# Two arenas are enough for tools, and each costs address space, which is limited for a call. One thread for the
# mathematics libraries, for those that they start at their import would not live on in a child. Pictures go to files.
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}


def users_of_this_process() -> Users:
    """Numbers above what systemd and containers give out (https://systemd.io/UIDS-GIDS), below 2^31."""
    return Users(1_900_000_000, 2_099_999_999, f"{os.getpid()} {os.urandom(8).hex()}")


@dataclass(frozen=True, slots=True)
class ForkServerOptions:
    """How the fork server is started.

    Attributes:
        references: the tools of packages.
        path: directories to import them from besides the interpreter's own.
        built_in: what the operator chose of the built-in tools.
        max_file_bytes: the largest file that a tool may write.
        profile: the highest isolation to use, L0 to L3; auto: the highest that the system grants.
        minimum_profile: below it nothing is run.
        spares: jailed children that wait ahead of calls.
        users: as root, the users that sessions' tools get; None: all have the service's. Without any, sessions have
            others with the next process.
        private: what no tool may see, by what it is (a variable): absolute paths.
        cgroup: a cgroup v2 folder that is delegated to us; empty: looked for.
        backend: what isolates: "native" or "bubblewrap".
        programs: where the program bwrap is looked for, as in PATH.
        start_timeout_s: how long loading the tools may take, in seconds.
    """

    references: Sequence[ToolReference] = ()
    path: Sequence[str] = ()
    built_in: BuiltInOptions = field(default_factory=BuiltInOptions)
    max_file_bytes: int = 64 * 2**20
    profile: str = "auto"
    minimum_profile: str = "L0"
    spares: int = 2
    users: Users | None = field(default_factory=users_of_this_process)
    private: Mapping[str, str] = field(default_factory=dict)
    cgroup: str = ""
    backend: str = "native"
    programs: str = "/usr/local/bin:/usr/bin:/bin"
    start_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Hello:
    """What a fork server says of itself; own_user: whether it takes a user for each session."""

    tools: Sequence[ToolSpec]
    left_out: Sequence[LeftOut]
    isolation: Isolation
    own_user: bool


class ForkServerProcess:
    """One life of the fork server."""

    def __init__(self, options: ForkServerOptions) -> None:
        """Starts the process.

        `-I` keeps PYTHON* variables, the user's site directory and the current directory out of it. No preexec_fn:
        that would make subprocess fork this process, with gRPC's threads in it, where it now uses vfork and exec.
        """
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = {
                "channel": theirs.fileno(),
                "path": list(options.path),
                "shell": options.built_in.shell,
                "preload": list(options.built_in.preload),
                "monty": options.built_in.monty,
                "references": [[one.origin, one.reference] for one in options.references],
                "max_file_bytes": options.max_file_bytes,
                "profile": options.profile,
                "users": [options.users.first, options.users.last] if options.users is not None else [],
                "private": dict(options.private),
                "cgroup": options.cgroup,
                "backend": options.backend,
                "programs": options.programs,
            }
            self._process = subprocess.Popen(  # noqa: S603 our own interpreter, our own module
                [sys.executable, "-I", "-X", "utf8", "-m", "pagi_sandbox.zygote", json.dumps(arguments)],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                # A Ctrl-C at the terminal is the service's to handle; calls end with the service.
                start_new_session=True,
            )
        self.channel.setblocking(False)

    @property
    def pid(self) -> int:
        """Of the fork server."""
        return self._process.pid

    async def hello(self, timeout_s: float) -> Hello:
        """Waits until the tools are loaded and the isolation is found.

        Raises:
            UnavailableError: it did not say so in time, or ended, or cannot isolate as it was told to.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await _readable(self.channel)
                packet = self.channel.recv(wire.MAX_PACKET)
        except (TimeoutError, OSError) as error:
            raise UnavailableError(f"the fork server did not start within {timeout_s:g} s") from error
        if not packet:
            raise UnavailableError("the fork server ended while it loaded the tools; its own output says why")
        told: dict[str, Any] = json.loads(packet[wire.HEADER.size :])
        if "fault" in told:
            raise UnavailableError(told["fault"])
        layers = tuple(Layer(*layer) for layer in told["layers"])
        seen = tuple(Observation(*observation) for observation in told["observations"])
        return Hello(
            tools=[_spec(spec) for spec in told["tools"]],
            left_out=[LeftOut(**one) for one in told["left_out"]],
            isolation=Isolation(told["profile"], layers, seen, told["backend"]),
            own_user=told["own_user"],
        )

    async def end(self) -> None:
        """Kills it and takes its status; its jailers see that, and end their calls and themselves."""
        self.channel.close()
        self._process.kill()
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    async def end_gently(self, timeout_s: float = 2.0) -> None:
        """Closes the channel, upon which it ends every call and itself."""
        self.channel.close()
        waiting = asyncio.get_running_loop().run_in_executor(None, self._wait, timeout_s)
        if not await waiting:
            await self.end()

    def _wait(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def open_slot(self, number: int, body: bytes, control: socket.socket, work: socket.socket) -> None:
        """Asks for a slot, and gives it its ends of two sockets; the body is its kind and orders.

        Raises:
            OSError: it is gone, or takes no more.
        """
        header = wire.HEADER.pack(wire.SLOT, number)
        socket.send_fds(self.channel, [header + body], [control.fileno(), work.fileno()])


async def _readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(channel.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(channel.fileno())


def _spec(told: dict[str, Any]) -> ToolSpec:
    return ToolSpec(**{**told, "effects": Effects(told["effects"]), "permissions": tuple(told["permissions"])})
