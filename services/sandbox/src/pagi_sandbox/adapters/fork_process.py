"""Starts the fork server's process and speaks with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pagi_chassis.errors import UnavailableError

from pagi_sandbox.adapters.entry_point_tools import ToolReference
from pagi_sandbox.domain.model import LeftOut, ToolSpec
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


@dataclass(frozen=True, slots=True)
class ForkServerOptions:
    """How the fork server is started.

    Attributes:
        references: the tools of packages.
        path: directories to import them from besides the interpreter's own.
        built_in: what the operator chose of the built-in tools.
        max_file_bytes: the largest file that a tool may write.
        start_timeout_s: how long loading the tools may take, in seconds.
    """

    references: Sequence[ToolReference] = ()
    path: Sequence[str] = ()
    built_in: BuiltInOptions = field(default_factory=BuiltInOptions)
    max_file_bytes: int = 64 * 2**20
    start_timeout_s: float = 20.0


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
                "references": [[one.origin, one.reference] for one in options.references],
                "max_file_bytes": options.max_file_bytes,
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

    async def hello(self, timeout_s: float) -> tuple[list[ToolSpec], list[LeftOut]]:
        """Waits until the tools are loaded.

        Raises:
            UnavailableError: it did not say so in time, or ended.
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
        specs = [_spec(spec) for spec in told["tools"]]
        return specs, [LeftOut(**one) for one in told["left_out"]]

    async def end(self) -> None:
        """Kills it and takes its status; the kernel ends the children that it leads."""
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

    def run(self, number: int, call: socket.socket, stdout: int, stderr: int) -> None:
        """Hands a call's descriptors over.

        Raises:
            OSError: it is gone, or takes no more.
        """
        header = wire.HEADER.pack(wire.RUN, number)
        socket.send_fds(self.channel, [header], [call.fileno(), stdout, stderr])

    def kill(self, number: int) -> None:
        """Ends a call's process group.

        Raises:
            OSError: it is gone, or takes no more.
        """
        self.channel.send(wire.HEADER.pack(wire.KILL, number))


def _spec(told: dict[str, Any]) -> ToolSpec:
    return ToolSpec(**{**told, "effects": Effects(told["effects"]), "permissions": tuple(told["permissions"])})


async def _readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(channel.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(channel.fileno())


def kill_group(pid: int) -> None:
    """Ends the group of a call whose fork server is gone.

    A group's number is not given away while anyone is in it. An empty one could be, in the milliseconds since the fork
    server died; that risk is smaller than that of leaving a tool's processes running.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
