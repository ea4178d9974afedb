"""One slot of the fork server, as the service sees it: a jailer that keeps a child waiting, see zygote/jailer.py."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from pagi_sandbox.adapters.fork_answer import Ending
from pagi_sandbox.adapters.fork_call import ForkCall
from pagi_sandbox.zygote import wire


class ForkSlot:
    """Hands calls to the slot's children, one after the other, and hears how they end."""

    def __init__(self, number: int, kind: bytes, ready: Callable[[ForkSlot], None], gone: Callable[[ForkSlot], None]):
        """`ready` is called whenever a child waits, `gone` once, when there will be none any more."""
        self.number = number
        self.kind = kind
        self._ready = ready
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self.control, self.their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        of_work = socket.SOCK_STREAM if kind == wire.PURE else socket.SOCK_SEQPACKET
        self.work, self.their_work = socket.socketpair(socket.AF_UNIX, of_work)
        for ours in (self.control, self.work):
            ours.setblocking(False)
        self._call: ForkCall | None = None
        self._generation = 0
        self.waits = False
        self.closed = False
        self._jailer = -1
        self._loop.add_reader(self.control.fileno(), self._read)

    @property
    def was_ready(self) -> bool:
        """Whether it has had a child at all."""
        return self._generation > 0

    @property
    def busy(self) -> bool:
        """Whether a call is in its child."""
        return self._call is not None

    def handed_over(self) -> None:
        """The fork server has its ends."""
        self.their_control.close()
        self.their_work.close()

    def has_jailer(self, pid: int) -> None:
        """The fork server has begun it."""
        with suppress(ProcessLookupError):
            self._jailer = os.pidfd_open(pid)

    def take_jailer(self) -> int:
        """A descriptor of the jailer, now the caller's to close; -1 where there is none."""
        jailer, self._jailer = self._jailer, -1
        return jailer

    def begin(self, call: ForkCall, orders: bytes) -> None:
        """Gives the waiting child its work.

        Raises:
            OSError: the slot is gone; nothing was begun.
        """
        packet = wire.HEADER.pack(wire.RUN, self._generation) + orders
        socket.send_fds(self.work, [packet], [call.theirs[0].fileno(), *call.theirs[1:]])
        self._call = call
        self.waits = False

    def watch(self, budget: bytes) -> None:
        """Lets the jailer end the child that is there now, once all of its call uses more than that (wire.BUDGET)."""
        if not self.closed:
            # One that is gone is noticed by the next read.
            with suppress(OSError):
                self.control.send(wire.HEADER.pack(wire.WATCH, self._generation) + budget)

    def kill(self) -> None:
        """Ends the child that is there now, with everything it started. A slot that is gone has done so already."""
        if not self.closed:
            try:
                self.control.send(wire.HEADER.pack(wire.KILL, self._generation))
            except OSError:
                self.lose()

    def lose(self) -> None:
        """Nothing more is to be had of it: what the jailer does not hear, it takes for the end."""
        if self.closed:
            return
        self.closed = True
        self.waits = False
        for ours in (self.control, self.work):
            # Before the numbers are given away again.
            self._loop.remove_reader(ours.fileno())
        for ours in (self.control, self.work, self.their_control, self.their_work):
            ours.close()
        if self._jailer >= 0:
            os.close(self.take_jailer())
        self._gone(self)

    def forget_call(self) -> ForkCall | None:
        """The call that is in its child, which is now the caller's to end."""
        call, self._call = self._call, None
        return call

    def _read(self) -> None:
        try:
            packet = self.control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if len(packet) < wire.HEADER.size:
            self.lose()
            return
        kind, generation = wire.HEADER.unpack_from(packet)
        if kind == wire.READY:
            self._generation = generation
            self.waits = True
            self._ready(self)
        elif kind == wire.REFUSED:
            if self._call is not None:
                self._call.refused()
        elif kind == wire.EXITED:
            call = self.forget_call()
            if call is None:
                # Its child ended before it had work: something is wrong here, so no other is tried.
                self.lose()
            else:
                call.exited(Ending(*wire.ENDING.unpack(packet[wire.HEADER.size :])))
