"""Runs tools in children of the fork server, and keeps a fork server running."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from pagi_chassis.errors import UnavailableError
from pagi_chassis.lifecycle import StartError

from pagi_sandbox.adapters.fork_call import ForkCall
from pagi_sandbox.adapters.fork_process import ForkServerOptions, ForkServerProcess, kill_group
from pagi_sandbox.domain.model import Isolation, ToolCall, ToolOutcome, ToolSpec, Verdict
from pagi_sandbox.domain.ports import CallWatcher
from pagi_sandbox.zygote import wire

log = logging.getLogger(__name__)

# A fork takes about a millisecond, a kill less. A fork server that needs longer than this is confused.
_ANSWER_S = 5.0
# How long a call waits for a fork server that is being restarted.
_RESTART_S = 5.0
_LONGEST_BACK_OFF_S = 5.0


class ForkRunner:
    """A ToolRunner and a component.

    The fork server that dies, or does not answer any more, is replaced. Calls in flight then end: one that had begun
    with verdict OUTCOME_UNKNOWN, one that had not with UnavailableError. Calls that come
    while it starts wait for it, up to 5 s.
    """

    def __init__(self, options: ForkServerOptions, *, on_restart: Callable[[], None] = lambda: None) -> None:
        """`on_restart` is called for every replacement."""
        self._options = options
        self._on_restart = on_restart
        self._specs: Sequence[ToolSpec] = ()
        self._process: ForkServerProcess | None = None
        self._up = asyncio.Event()
        self._calls: dict[int, ForkCall] = {}
        self._numbers = itertools.count(1)
        self._restarting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the fork server and loads the tools.

        Raises:
            StartError: it did not start.
        """
        try:
            await self._launch()
        except UnavailableError as error:
            raise StartError(error.message) from error

    async def stop(self) -> None:
        """Ends every call and the fork server."""
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait({self._restarting})
        process = self._detach()
        if process is not None:
            await process.end_gently()
        for call in list(self._calls.values()):
            call.lost()
        self._calls.clear()

    def tools(self) -> Sequence[ToolSpec]:
        """What the fork server has loaded."""
        return self._specs

    def isolation(self) -> Isolation:
        """What holds a tool today."""
        return Isolation(
            profile="process",
            active=(
                "a child process of its own for each call, in its own session and process group",
                "limits on address space, processor time, open files, file size and core dumps",
                "an empty environment",
                "no descriptors of the service",
                "the session's workspace as current directory",
            ),
            missing=("filesystem isolation", "network isolation", "system call filter", "a user of its own"),
        )

    @property
    def pid(self) -> int:
        """Of the fork server; 0 where there is none now."""
        return self._process.pid if self._process is not None else 0

    async def check(self) -> None:
        """For health.

        Raises:
            UnavailableError: there is no fork server now.
        """
        if self._process is None:
            raise UnavailableError("the fork server is being restarted")

    async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
        """Runs a tool in a child process; see ToolRunner."""
        process = await self._running()
        number = next(self._numbers)
        forked = ForkCall(call, lambda: self._kill(number), watcher)
        try:
            process.run(number, *forked.theirs)
        except OSError as error:
            forked.discard()
            self._lost(process, f"it takes no call: {error}")
            raise UnavailableError("the sandbox's fork server is being restarted; the tool was not started") from error
        self._calls[number] = forked
        forked.begin()
        watch = asyncio.get_running_loop().call_later(_ANSWER_S, self._expect_fork, process, number)
        try:
            return await forked.done
        except asyncio.CancelledError:
            forked.stop(Verdict.CRASH, "the caller went away")
            raise
        finally:
            watch.cancel()

    async def _running(self) -> ForkServerProcess:
        if self._process is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RESTART_S):
                    await self._up.wait()
        if self._process is None:
            raise UnavailableError("the sandbox's fork server does not start; the tool was not started")
        return self._process

    # What the fork server says.

    def _read(self, process: ForkServerProcess) -> None:
        try:
            packet = process.channel.recv(wire.MAX_PACKET)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(process, str(error))
            return
        if len(packet) < wire.HEADER.size:
            self._lost(process, "it ended" if not packet else "it talks nonsense")
            return
        kind, number = wire.HEADER.unpack_from(packet)
        body = packet[wire.HEADER.size :]
        if kind == wire.FORKED and number in self._calls:
            (self._calls[number].pid,) = wire.PID.unpack(body)
        elif kind == wire.EXITED and number in self._calls:
            (status,) = wire.STATUS.unpack(body)
            self._calls.pop(number).exited(status)

    def _kill(self, number: int) -> None:
        process = self._process
        if process is None:
            return
        try:
            process.kill(number)
        except OSError as error:
            self._lost(process, f"it takes no order: {error}")
            return
        asyncio.get_running_loop().call_later(_ANSWER_S, self._expect_end, process, number)

    def _expect_fork(self, process: ForkServerProcess, number: int) -> None:
        call = self._calls.get(number)
        if call is not None and not call.pid:
            self._lost(process, f"it did not begin a call within {_ANSWER_S:g} s")

    def _expect_end(self, process: ForkServerProcess, number: int) -> None:
        if number in self._calls:
            self._lost(process, f"it did not end a call within {_ANSWER_S:g} s")

    # Its life.

    async def _launch(self) -> None:
        process = ForkServerProcess(self._options)
        try:
            self._specs, left_out = await process.hello(self._options.start_timeout_s)
        except BaseException:
            await process.end()
            raise
        for one in left_out:
            log.error("the tool of %s is left out: %s", one.origin, one.reason)
        asyncio.get_running_loop().add_reader(process.channel.fileno(), self._read, process)
        self._process = process
        self._up.set()
        log.info("the fork server runs %d tools", len(self._specs), extra={"pid": process.pid})

    def _detach(self) -> ForkServerProcess | None:
        process, self._process = self._process, None
        self._up.clear()
        if process is not None:
            asyncio.get_running_loop().remove_reader(process.channel.fileno())
        return process

    def _lost(self, process: ForkServerProcess, why: str) -> None:
        if process is not self._process:
            return
        log.error("the fork server is replaced: %s", why, extra={"pid": process.pid, "calls": len(self._calls)})
        self._detach()
        self._restarting = asyncio.get_running_loop().create_task(self._replace(process))

    async def _replace(self, process: ForkServerProcess) -> None:
        # First its end: the kernel then ends the leaders of its calls, and nothing forks any more.
        await process.end()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if call.pid:
                kill_group(call.pid)
            call.lost()
        self._on_restart()
        back_off = 0.1
        while True:
            try:
                await self._launch()
                return
            except (UnavailableError, OSError) as error:
                log.error("the fork server does not start, next try in %g s: %s", back_off, error)
            await asyncio.sleep(back_off)
            back_off = min(2 * back_off, _LONGEST_BACK_OFF_S)
