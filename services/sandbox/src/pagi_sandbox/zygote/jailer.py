"""A slot: a process that keeps one child jailed and waiting, and ends all that a call leaves behind.

It lives for many calls, one after the other. Between two of them nothing of the first is left: the child was the only
way in, and whatever it started is a descendant that has been ended and reaped before the next child is forked. So a
call costs one fork, made before the call comes.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.zygote import kernel, wire
from pagi_sandbox.zygote.bubblewrap import BubblewrapJail
from pagi_sandbox.zygote.jail import Jail
from pagi_sandbox.zygote.scratch import empty
from pagi_sandbox.zygote.usage import Budget, Excess, Usage, Watch

# Reaps children that announce their end by another signal than SIGCHLD too (wait(2), __WALL).
_WALL = 0x40000000
_NOTHING = Excess(bytes(1), 0)
# What a child does: with its work socket, its generation, its jail, the tools, and orders of a pure one.
Run = Callable[[int, int, Any, Mapping[str, Tool], dict[str, Any] | None], NoReturn]


class Jailer:
    """Serves one slot until its control socket, or the fork server, ends."""

    def __init__(
        self,
        slot: int,
        control: socket.socket,
        work: socket.socket,
        lifeline: int,
        jail: Jail | BubblewrapJail,
        pure_orders: dict[str, Any] | None,
        run: Run,
    ) -> None:
        """`lifeline` is readable once the fork server is gone; `pure_orders` are for the child, see there.

        `run` is what the child does.
        """
        self._run = run
        self._slot = slot
        self._pure_orders = pure_orders
        self._control = control
        self._work = work
        self._lifeline = lifeline
        self._jail = jail
        self._generation = 0
        self._excess = _NOTHING

    def serve(self, tools: Mapping[str, Tool]) -> NoReturn:
        """Runs until it is not needed any more, and ends the process."""
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        self._jail.enter_as_jailer(self._slot)
        self._exact = self._jail.kill_reaches_only_the_call()
        self._wakeup, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        for descriptor in (self._control.fileno(), self._wakeup, self._lifeline):
            poller.register(descriptor, select.POLLIN)
        while self._one_child(poller, tools):
            self._clean()
        os._exit(0)

    def _one_child(self, poller: select.poll, tools: Mapping[str, Tool]) -> bool:
        """One child from its fork to its end; False where there shall be no next one."""
        self._generation += 1
        self._jail.new_mounts()
        jail = self._jail
        before, usage = self._events(), Usage(jail.group, jail.folder, jail.keepers, jail.inside)
        self._excess = _NOTHING
        # Open while there is nobody below us: we look at what a child holds, even before it has run at all.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _own_input()
            self._jail.refuse = lambda: self._say(wire.REFUSED)
            self._run(self._work.detach(), self._generation, self._jail, tools, self._pure_orders)
        # What we have open and hold in memory is no business of anybody who finds us in /proc.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        self._say(wire.READY)
        status = self._watch(poller, pid, Watch(usage))
        self._end_all()
        if status is None:
            return False
        status, was_jailed = self._jail.ending(status)
        if not was_jailed:
            self._say(wire.REFUSED)
        memory, processes = (now - then for now, then in zip(self._events(), before, strict=True))
        self._say(wire.EXITED, wire.ENDING.pack(status, memory, processes, *self._excess))
        # What a pure child has not read would be read by the next, whose answers would pass for those of the first.
        return self._pure_orders is None

    def _events(self) -> tuple[int, int]:
        return self._jail.group.events() if self._jail.group is not None else (0, 0)

    def _watch(self, poller: select.poll, pid: int, watch: Watch) -> int | None:
        """Its wait status, killed if so ordered or out of budget; None where the service or the fork server is gone."""
        while True:
            ready = [descriptor for descriptor, _ in poller.poll(watch.pause_ms)]
            if self._wakeup in ready:
                with suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
                status = self._reap(pid)
                if status is not None:
                    return status
            if self._lifeline in ready:
                return None
            if self._control.fileno() in ready:
                kind, body = self._order()
                if not kind:
                    return None
                if kind == wire.KILL:
                    self._kill(pid)
                elif kind == wire.WATCH:
                    watch.begin(Budget(*wire.BUDGET.unpack(body)))
            if excess := watch.look():
                self._excess = excess
                self._kill(pid)

    def _kill(self, pid: int) -> None:
        """The child, and where one act reaches just that, everything that it started: the less is left to outrun us."""
        with suppress(ProcessLookupError):
            os.kill(-1 if self._exact else pid, signal.SIGKILL)

    def _order(self) -> tuple[bytes, bytes]:
        """What the service wants of this child; kind READY where it is nothing, none where the service is gone."""
        try:
            packet = self._control.recv(64)
        except ConnectionResetError:
            return b"", b""
        if not packet:
            return b"", b""
        kind, generation = wire.HEADER.unpack_from(packet)
        # An order for an earlier child that has ended by itself meanwhile must not meet this one.
        return (kind, packet[wire.HEADER.size :]) if generation == self._generation else (wire.READY, b"")

    def _reap(self, wanted: int) -> int | None:
        """Takes whoever has ended, orphans of the call too."""
        found = None
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | _WALL)
                if pid == 0:
                    break
                if pid == wanted:
                    found = status
        return found

    def _end_all(self) -> None:
        """Ends and reaps every descendant.

        As their subreaper we are the parent of each whose own parent is gone: no child left means that nothing is left.
        kill(-1) is one act for the kernel: a process that forks at that moment is either seen with its child, or ended
        before it has one.
        """
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG | _WALL)
            except ChildProcessError:
                return
            if pid:
                continue
            if self._exact:
                with suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(-1, _WALL)
            else:
                end_children()

    def _clean(self) -> None:
        if self._jail.plan.namespaces or self._jail.plan.bubblewrap is not None:
            return  # the private /tmp went with the child's mount namespace
        empty(str(Path(self._jail.plan.scratch) / f"slot-{self._slot}"))

    def _say(self, kind: bytes, body: bytes = b"") -> None:
        # A service that is gone is noticed by the next poll.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(wire.HEADER.pack(kind, self._generation) + body)


def _own_input() -> None:
    """An empty input that is the child's alone: what is shared has flags and locks by which calls could speak."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def end_children(spared: Mapping[int, object] | None = None) -> None:
    """Ends the children of this process that are not spared, and what those lead; where nothing exact is to be had."""
    with suppress(FileNotFoundError):  # a kernel without CONFIG_PROC_CHILDREN
        for text in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            pid = int(text)
            if spared is None or pid not in spared:
                for end in (os.killpg, os.kill):
                    with suppress(ProcessLookupError, PermissionError):
                        end(pid, signal.SIGKILL)
