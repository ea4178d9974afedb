"""Every slot of one fork server: some wait ahead of calls, more come when calls do, and go when they are not needed."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable

from pagi_chassis.errors import UnavailableError

from pagi_sandbox.adapters.fork_process import ForkServerProcess
from pagi_sandbox.adapters.fork_slot import ForkSlot
from pagi_sandbox.zygote import wire

log = logging.getLogger(__name__)

_MOST = 64
# How long more slots than the spares are kept after a burst.
_LINGER_S = 2.0
_TRIES = 3


class ForkSlots:
    """Gives slots to calls."""

    def __init__(
        self, process: ForkServerProcess, *, spares: int, patience_s: Callable[[], float], stuck: Callable[[str], None]
    ) -> None:
        """`stuck` is called with the reason when the fork server does not do its part within `patience_s`."""
        self._process = process
        self._spares = spares
        self._patience_s = patience_s
        self._stuck = stuck
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._slots: dict[int, ForkSlot] = {}
        self._idle: dict[bytes, list[ForkSlot]] = {wire.JAIL: [], wire.NETWORK: []}
        self._waiting: dict[bytes, deque[asyncio.Future[ForkSlot]]] = {wire.JAIL: deque(), wire.NETWORK: deque()}
        self._failed = 0
        self._over = False

    def fill(self) -> None:
        """Opens the spares."""
        for _ in range(self._spares):
            self._open(wire.JAIL)

    def all(self) -> list[ForkSlot]:
        """Every slot there is."""
        return list(self._slots.values())

    async def take(self, kind: bytes) -> ForkSlot:
        """A slot in which a child waits; the first to ask is the first to get.

        Raises:
            UnavailableError: none is to be had.
        """
        if self._over:
            raise UnavailableError("the sandbox's fork server is being restarted; the tool was not started")
        idle = self._idle[kind]
        if idle:
            return idle.pop()
        waiting: asyncio.Future[ForkSlot] = self._loop.create_future()
        self._waiting[kind].append(waiting)
        self._open_for_those_who_wait(kind)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self.give_back(waiting.result())
            raise

    def give_back(self, slot: ForkSlot) -> None:
        """Nothing was begun in it."""
        if slot.waits:
            self._ready(slot)

    def has_jailer(self, number: int, pid: int) -> None:
        """The fork server says that a slot has begun."""
        slot = self._slots.get(number)
        if slot is not None:
            slot.has_jailer(pid)

    def gone(self, number: int) -> None:
        """The fork server says that the slot's jailer ended."""
        slot = self._slots.get(number)
        if slot is not None:
            slot.lose()

    def close(self, why: str) -> None:
        """Ends every slot; who waits hears why."""
        self._over = True
        for slot in self.all():
            slot.lose()
        self._fail(why)

    def open_pure(self, orders: bytes, ready: Callable[[ForkSlot], None], gone: Callable[[ForkSlot], None]) -> None:
        """A slot of its own kind, which its owner keeps."""
        number = next(self._numbers)

        def forget(slot: ForkSlot) -> None:
            self._slots.pop(number, None)
            gone(slot)

        self._hand_over(ForkSlot(number, wire.PURE, ready, forget), orders)

    def _open_for_those_who_wait(self, kind: bytes) -> None:
        coming = sum(1 for slot in self._slots.values() if slot.kind == kind and not slot.busy)
        if len(self._waiting[kind]) > coming and len(self._slots) < _MOST:
            self._open(kind)

    def _open(self, kind: bytes) -> None:
        slot = ForkSlot(next(self._numbers), kind, self._ready, self._lost)
        self._hand_over(slot, b"")
        self._loop.call_later(self._patience_s(), self._expect, slot)

    def _hand_over(self, slot: ForkSlot, orders: bytes) -> None:
        self._slots[slot.number] = slot
        try:
            self._process.open_slot(slot.number, slot.kind + orders, slot.their_control, slot.their_work)
        except OSError as error:
            slot.lose()
            self._stuck(f"it takes no order: {error}")
            return
        slot.handed_over()

    def _expect(self, slot: ForkSlot) -> None:
        if not slot.closed and not slot.was_ready:
            self._stuck(f"it did not make a slot ready within {self._patience_s():g} s")

    def _ready(self, slot: ForkSlot) -> None:
        self._failed = 0
        waiting = self._waiting[slot.kind]
        while waiting:
            first = waiting.popleft()
            if not first.done():
                first.set_result(slot)
                return
        idle = self._idle[slot.kind]
        idle.append(slot)
        if len(idle) > self._kept(slot.kind):
            self._loop.call_later(_LINGER_S, self._trim, slot.kind)

    def _kept(self, kind: bytes) -> int:
        return self._spares if kind == wire.JAIL else 0

    def _trim(self, kind: bytes) -> None:
        idle = self._idle[kind]
        if len(idle) > self._kept(kind) and not self._over:
            # The one that waits longest.
            idle.pop(0).lose()

    def _lost(self, slot: ForkSlot) -> None:
        self._slots.pop(slot.number, None)
        if slot in self._idle[slot.kind]:
            self._idle[slot.kind].remove(slot)
        call = slot.forget_call()
        if call is not None:
            call.lost()
        if self._over:
            return
        if self._waiting[slot.kind]:
            self._failed += 1
            if self._failed >= _TRIES:
                self._failed = 0
                self._fail("the sandbox has no process to run the tool in; the tool was not started")
            else:
                self._open_for_those_who_wait(slot.kind)

    def _fail(self, why: str) -> None:
        for waiting in self._waiting.values():
            while waiting:
                first = waiting.popleft()
                if not first.done():
                    first.set_exception(UnavailableError(why))
