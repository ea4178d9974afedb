"""Calls of pure tools: one round trip to a child that stays, see zygote/child.py for why that is safe."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from pagi_sandbox.adapters.fork_answer import Answer, read_answer
from pagi_sandbox.adapters.fork_orders import request_of
from pagi_sandbox.adapters.fork_slot import ForkSlot
from pagi_sandbox.adapters.fork_slots import ForkSlots
from pagi_sandbox.domain.model import Isolation, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.zygote import wire

# After so many calls the child makes room for a fresh one.
_CALLS = 1000
# Larger requests and answers go the ordinary way.
_MOST_BYTES = 60_000
_SLOWEST_S = 30.0
# How long a call waits for others that are quick as a rule; then it goes the ordinary way.
_PATIENCE_S = 0.05


@dataclass(slots=True)
class _Waiting:
    answer: asyncio.Future[bytes | None]
    received: bytearray


class ForkPure:
    """A child for pure tools, replaced whenever a call does not end well."""

    def __init__(self, slots: ForkSlots, orders: bytes, isolation: Isolation) -> None:
        """`orders` are what its children run with, `isolation` what holds them."""
        self._slots = slots
        self._orders = orders
        self._isolation = isolation
        self._layers = isolation.active()
        self._loop = asyncio.get_running_loop()
        self._slot: ForkSlot | None = None
        self._waiting: _Waiting | None = None
        self._turn = asyncio.Lock()
        self._served = 0
        self._over = False
        self._open()

    async def run(self, call: ToolCall) -> ToolOutcome | None:
        """The outcome; None where the call has to go the ordinary way, which then tells what is wrong with it."""
        request = request_of(call)
        if len(request) > _MOST_BYTES or not await self._has_turn():
            return None
        try:
            return await self._ask(call, request)
        finally:
            self._turn.release()

    async def _has_turn(self) -> bool:
        """Waits for those before it, for a while: a call takes a fraction of what a child of its own would."""
        if not self._turn.locked():
            return await self._turn.acquire()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._turn.acquire()
        except TimeoutError:
            return False

    async def _ask(self, call: ToolCall, request: bytes) -> ToolOutcome | None:
        slot = self._slot
        if slot is None or not slot.waits:
            return None
        began = time.perf_counter()
        self._waiting = waiting = _Waiting(self._loop.create_future(), bytearray())
        try:
            slot.work.send(request)
            async with asyncio.timeout(call.limits.timeout_ms / 1000):
                told = await waiting.answer
        except TimeoutError:
            self._replace()
            why = f"the tool did not end within {call.limits.timeout_ms} ms and was stopped"
            return self._outcome(began, Answer(Verdict.TIMEOUT, "", why))
        except OSError:
            self._replace()
            return None
        except BaseException:
            self._replace()
            raise
        finally:
            self._waiting = None
        answer = read_answer(told, call.limits.memory_mb) if told is not None else None
        if answer is None or answer.verdict not in {Verdict.OK, Verdict.FAILED}:
            self._replace()
            return None
        self._served += 1
        if self._served >= _CALLS:
            self._replace()
        return self._outcome(began, answer)

    def close(self) -> None:
        """Ends it."""
        self._over = True
        if self._slot is not None:
            self._slot.lose()

    def _outcome(self, began: float, answer: Answer) -> ToolOutcome:
        duration_ms = (time.perf_counter() - began) * 1000
        return ToolOutcome(
            answer.verdict,
            answer.output_json,
            error=answer.error,
            duration_ms=duration_ms,
            profile=self._isolation.profile,
            backend=self._isolation.backend,
            layers=self._layers,
        )

    def _open(self) -> None:
        self._served = 0
        self._slots.open_pure(self._orders, self._ready, self._gone)

    def _ready(self, slot: ForkSlot) -> None:
        if self._slot is slot:
            # Its child ended and there is a new one. What the old one was asked is not for the new one to read.
            slot.lose()
            return
        self._slot = slot
        self._loop.add_reader(slot.work.fileno(), self._read, slot)

    def _replace(self) -> None:
        if self._slot is not None:
            self._slot.kill()
            self._slot.lose()

    def _gone(self, slot: ForkSlot) -> None:
        if self._waiting is not None and not self._waiting.answer.done():
            self._waiting.answer.set_result(None)
        known, self._slot = self._slot is slot, None
        # One that never was ready is not tried at once again: calls go the ordinary way meanwhile.
        if not self._over:
            self._loop.call_later(0 if known else _SLOWEST_S, self._reopen)

    def _reopen(self) -> None:
        if not self._over and self._slot is None:
            self._open()

    def _read(self, slot: ForkSlot) -> None:
        try:
            data = slot.work.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        waiting = self._waiting
        if not data or waiting is None:
            slot.lose()  # it ended, or talks without being asked
            return
        waiting.received += data
        if len(waiting.received) >= wire.LENGTH.size:
            (length,) = wire.LENGTH.unpack_from(waiting.received)
            if length > _MOST_BYTES:
                waiting.answer.set_result(None)
            elif len(waiting.received) == wire.LENGTH.size + length and not waiting.answer.done():
                waiting.answer.set_result(bytes(waiting.received[wire.LENGTH.size :]))


def pure_orders(user: int) -> bytes:
    """What a child for pure tools may use: next to nothing. Its memory is counted from what the fork server holds."""
    orders = {
        "workspace": None,
        "user": user,
        "memory_bytes": 0,
        "cpu_seconds": 3600,
        "disk_bytes": 65_536,
        "processes": 1,
        "writes": False,
    }
    return json.dumps(orders).encode("ascii")
