"""Runs tools in jailed children of the fork server, and keeps a fork server running."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec

from pagi_chassis.errors import UnavailableError
from pagi_chassis.lifecycle import StartError

from pagi_sandbox.adapters.fork_call import ForkCall
from pagi_sandbox.adapters.fork_orders import budget_of, orders_of
from pagi_sandbox.adapters.fork_process import ForkServerOptions, ForkServerProcess, Hello
from pagi_sandbox.adapters.fork_pure import ForkPure, pure_orders
from pagi_sandbox.adapters.fork_slot import ForkSlot
from pagi_sandbox.adapters.fork_slots import ForkSlots
from pagi_sandbox.domain.isolation import check_isolation
from pagi_sandbox.domain.model import Isolation, ToolCall, ToolOutcome, ToolSpec, Verdict
from pagi_sandbox.domain.ports import CallWatcher
from pagi_sandbox.domain.tool import Permission
from pagi_sandbox.zygote import wire

log = logging.getLogger(__name__)

# A slot takes some milliseconds, a kill less. A fork server or jailer that needs longer than this is confused.
_ANSWER_S = 5.0
# How long a call waits for a fork server that is being restarted.
_RESTART_S = 5.0
_LONGEST_BACK_OFF_S = 5.0
# How long the jailers of a fork server that is gone have for ending their calls, before they are ended themselves.
_LAST_S = 1.0


class ForkRunner:
    """A ToolRunner and a component.

    The fork server that dies, or does not answer any more, is replaced. Calls in flight then end: one that had begun
    with verdict OUTCOME_UNKNOWN, one that had not with UnavailableError. Calls that come
    while it starts wait for it, up to 5 s.
    """

    def __init__(
        self,
        options: ForkServerOptions,
        *,
        on_restart: Callable[[], None] = lambda: None,
        on_isolation: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_restart` is called for every replacement, `on_isolation` with the profile of every fork server."""
        self._on_isolation = on_isolation
        self._options = options
        self._on_restart = on_restart
        self._hello = Hello((), (), Isolation("L0", (), ()), own_user=False)
        self._specs: Mapping[str, ToolSpec] = {}
        self._process: ForkServerProcess | None = None
        self._slots: ForkSlots | None = None
        self._pure: ForkPure | None = None
        self._up = asyncio.Event()
        self._restarting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the fork server, which loads the tools and finds the isolation.

        Raises:
            StartError: it did not start, or the interpreter that was chosen is not installed.
        """
        if self._options.built_in.monty and find_spec("pydantic_monty") is None:
            raise StartError(
                "SANDBOX_PYTHON_BACKEND=monty needs the package pydantic-monty, which is not installed; run: "
                "python -m pip install 'pydantic-monty>=1.4,<1.5' with the sandbox's interpreter"
            )
        try:
            await self._launch()
        except UnavailableError as error:
            raise StartError(error.message) from error

    async def stop(self) -> None:
        """Ends every call and the fork server."""
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait({self._restarting})
        process, slots = self._detach()
        if process is not None:
            await process.end_gently()
        if slots is not None:
            slots.close("the sandbox stops; the tool was not started")

    def tools(self) -> Sequence[ToolSpec]:
        """What the fork server has loaded."""
        return self._hello.tools

    def isolation(self) -> Isolation:
        """What holds a tool, as found by doing when the fork server started."""
        return self._hello.isolation

    def check_isolation(self, spec: ToolSpec) -> None:
        """Lets a tool pass that has the isolation it needs.

        Raises:
            IsolationError: it has not.
        """
        check_isolation(spec, self._hello.isolation, self._options.minimum_profile)

    @property
    def pid(self) -> int:
        """Of the fork server; 0 where there is none now."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> int:
        """How many calls are in a child of their own now."""
        return sum(slot.busy for slot in self._slots.all()) if self._slots is not None else 0

    async def check(self) -> None:
        """For health.

        Raises:
            UnavailableError: there is no fork server now.
        """
        if self._process is None:
            raise UnavailableError("the fork server is being restarted")

    async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
        """Runs a tool in a jailed child; see ToolRunner.

        Raises:
            IsolationError: the tool needs more isolation than there is.
        """
        spec = self._specs[call.tool]
        self.check_isolation(spec)
        slots = await self._running()
        if spec.pure and self._pure is not None:
            outcome = await self._pure.run(call)
            if outcome is not None:
                return outcome
        kind = wire.NETWORK if Permission.NETWORK.value in spec.permissions else wire.JAIL
        slot = await slots.take(kind)
        return await self._run_in(slot, slots, call, spec, watcher)

    async def _run_in(
        self, slot: ForkSlot, slots: ForkSlots, call: ToolCall, spec: ToolSpec, watcher: CallWatcher | None
    ) -> ToolOutcome:
        users = self._options.users if self._hello.own_user else None
        forked = ForkCall(
            call,
            self._hello.isolation,
            lambda: self._kill(slot, forked),
            watcher,
            lasts=lambda: slot.watch(budget_of(call, self._options.max_file_bytes)),
        )
        try:
            slot.begin(forked, orders_of(call, spec, users, self._options.max_file_bytes))
        except OSError as error:
            forked.discard()
            slot.lose()
            raise UnavailableError("the sandbox's fork server is being restarted; the tool was not started") from error
        except BaseException:
            forked.discard()
            slots.give_back(slot)
            raise
        forked.begin()
        try:
            return await forked.done
        except asyncio.CancelledError:
            forked.stop(Verdict.CRASH, "the caller went away")
            raise

    def _kill(self, slot: ForkSlot, call: ForkCall) -> None:
        slot.kill()
        if self._process is not None:
            asyncio.get_running_loop().call_later(_ANSWER_S, self._expect_end, self._process, call)

    def _expect_end(self, process: ForkServerProcess, call: ForkCall) -> None:
        if not call.over:
            self._lost(process, f"a call was not ended within {_ANSWER_S:g} s")

    async def _running(self) -> ForkSlots:
        if self._slots is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RESTART_S):
                    await self._up.wait()
        if self._slots is None:
            raise UnavailableError("the sandbox's fork server does not start; the tool was not started")
        return self._slots

    # What the fork server says.

    def _read(self, process: ForkServerProcess, slots: ForkSlots) -> None:
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
        if kind == wire.FORKED:
            slots.has_jailer(number, *wire.PID.unpack(packet[wire.HEADER.size :]))
        elif kind == wire.GONE:
            slots.gone(number)

    # Its life.

    async def _launch(self) -> None:
        process = ForkServerProcess(self._options)
        try:
            self._hello = hello = await process.hello(self._options.start_timeout_s)
        except BaseException:
            await process.end()
            raise
        self._specs = {spec.name: spec for spec in hello.tools}
        for one in hello.left_out:
            log.error("the tool of %s is left out: %s", one.origin, one.reason)
        slots = ForkSlots(
            process,
            spares=self._options.spares,
            patience_s=lambda: _ANSWER_S,
            stuck=lambda why: self._lost(process, why),
        )
        asyncio.get_running_loop().add_reader(process.channel.fileno(), self._read, process, slots)
        self._process, self._slots = process, slots
        slots.fill()
        if any(spec.pure for spec in hello.tools):
            user = self._options.users.first if self._options.users is not None and hello.own_user else 0
            self._pure = ForkPure(slots, pure_orders(user), hello.isolation)
        self._up.set()
        self._on_isolation(hello.isolation.profile)
        log.info(
            "the fork server runs %d tools under isolation profile %s",
            len(hello.tools),
            hello.isolation.profile,
            extra={"pid": process.pid, "profile": hello.isolation.profile},
        )

    def _detach(self) -> tuple[ForkServerProcess | None, ForkSlots | None]:
        process, self._process = self._process, None
        slots, self._slots = self._slots, None
        self._up.clear()
        if self._pure is not None:
            self._pure.close()
            self._pure = None
        if process is not None:
            asyncio.get_running_loop().remove_reader(process.channel.fileno())
        return process, slots

    def _lost(self, process: ForkServerProcess, why: str) -> None:
        if process is not self._process:
            return
        log.error("the fork server is replaced: %s", why, extra={"pid": process.pid})
        jailers = [slot.take_jailer() for slot in self._slots.all()] if self._slots is not None else []
        _, slots = self._detach()
        self._restarting = asyncio.get_running_loop().create_task(self._replace(process, slots, jailers))

    async def _replace(self, process: ForkServerProcess, slots: ForkSlots | None, jailers: Sequence[int]) -> None:
        # First its end: its jailers then end their calls and themselves, and nothing forks any more.
        await process.end()
        asyncio.get_running_loop().call_later(_LAST_S, _end_all, [jailer for jailer in jailers if jailer >= 0])
        if slots is not None:
            slots.close("the sandbox's fork server is being restarted; the tool was not started")
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


def _end_all(jailers: Sequence[int]) -> None:
    """Ends the jailers that are still there, which means that they hang."""
    for jailer in jailers:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(jailer, signal.SIGKILL)
        os.close(jailer)
