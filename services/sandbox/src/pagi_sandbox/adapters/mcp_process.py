"""A process with pipes, started without forking this one.

asyncio's own subprocesses are forked where uvloop is the loop; a process with gRPC's threads in it must not be.
Python's Popen uses vfork and exec where nothing is asked of it that would need more.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from asyncio.streams import FlowControlMixin
from collections.abc import Mapping, Sequence
from contextlib import suppress


class PipedProcess:
    """What asyncio.subprocess.Process is, as far as it is needed."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], kept: int, limit: int) -> None:
        """Starts this interpreter.

        Args:
            arguments: of the interpreter.
            environment: all of its variables.
            kept: a descriptor that it gets besides its pipes.
            limit: the longest line of its output, in bytes.

        Raises:
            OSError: there is no process to be had.
        """
        self._process = subprocess.Popen(  # noqa: S603 our own interpreter
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            pass_fds=(kept,),
            cwd="/",
            start_new_session=True,
        )
        self.stdout, self.stderr = asyncio.StreamReader(limit), asyncio.StreamReader()
        self.stdin: asyncio.StreamWriter
        self._ended = asyncio.Event()
        self._transports: list[asyncio.BaseTransport] = []
        self._watched = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._watched, self._reap)

    async def connect(self) -> None:
        """Before its pipes are used."""
        loop, process = asyncio.get_running_loop(), self._process
        for reader, pipe in ((self.stdout, process.stdout), (self.stderr, process.stderr)):
            protocol = asyncio.StreamReaderProtocol(reader)
            self._transports.append((await loop.connect_read_pipe(lambda protocol=protocol: protocol, pipe))[0])  # type: ignore[misc]
        transport, flow = await loop.connect_write_pipe(FlowControlMixin, process.stdin)
        self._transports.append(transport)
        self.stdin = asyncio.StreamWriter(transport, flow, None, loop)

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        await self._ended.wait()
        return self._process.returncode

    def terminate(self) -> None:
        """Asks it to end."""
        # One that has ended is noticed by the next turn of the loop.
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Ends it."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """Gives the pipes back."""
        for transport in self._transports:
            transport.close()

    def _reap(self) -> None:
        if self._process.poll() is not None and not self._ended.is_set():
            asyncio.get_running_loop().remove_reader(self._watched)
            os.close(self._watched)
            self._ended.set()
