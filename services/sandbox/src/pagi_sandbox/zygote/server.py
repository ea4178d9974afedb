"""The fork server's loop: opens slots and reaps them. One thread, no state but the slots."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from contextlib import suppress

from pagi_sandbox.zygote import wire
from pagi_sandbox.zygote.jail import Plan
from pagi_sandbox.zygote.jailer import end_children
from pagi_sandbox.zygote.slots import Slots


class ForkServer:
    """Serves one service over one socket until that socket ends."""

    def __init__(self, channel: socket.socket, slots: Slots, plan: Plan) -> None:
        """`channel` is the fork server's end, blocking."""
        self._channel = channel
        self._slots = slots
        self._plan = plan
        self._wakeup, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Runs until the service goes away; then ends every slot."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        try:
            while True:
                ready = [descriptor for descriptor, _ in poller.poll()]
                if self._wakeup in ready:
                    with suppress(BlockingIOError):
                        os.read(self._wakeup, 4096)
                    self._reap()
                if self._channel.fileno() in ready and not self._receive():
                    return
        finally:
            self._slots.end()

    def _receive(self) -> bool:
        message, descriptors, flags, _ = socket.recv_fds(self._channel, 4096, 2, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        kind, number = wire.HEADER.unpack_from(message)
        try:
            if kind == wire.SLOT and len(descriptors) == 2 and not flags & socket.MSG_CTRUNC:
                self._open(number, message[wire.HEADER.size :], *descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _open(self, number: int, body: bytes, control: int, work: int) -> None:
        kind, orders = body[:1], json.loads(body[1:]) if len(body) > 1 else None
        try:
            pid = self._slots.open(self._plan, number, kind, control, work, orders)
        except OSError:
            # Nothing to fork with: the service hears that the slot was gone before it began.
            self._say(wire.GONE, number)
            return
        self._say(wire.FORKED, number, wire.PID.pack(pid))

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                number = self._slots.reaped(pid)
                if number is not None:
                    # A jailer that was killed could end nothing of its call; what it left comes to us.
                    end_children(self._slots.pids())
                    self._say(wire.GONE, number)

    def _say(self, kind: bytes, number: int, body: bytes = b"") -> None:
        # A service that is gone is noticed by the next receive.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(wire.HEADER.pack(kind, number) + body)
