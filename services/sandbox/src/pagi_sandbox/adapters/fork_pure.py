"""Calls of pure tools: one round trip to a child that stays, see zygote/child.py for why that is safe."""

from __future__ import annotations

import asyncio
import json
import time

from pagi_sandbox.adapters.fork_answer import Answer
from pagi_sandbox.adapters.fork_orders import request_of
from pagi_sandbox.adapters.fork_pure_child import ForkPureChild
from pagi_sandbox.adapters.fork_slot import ForkSlot
from pagi_sandbox.adapters.fork_slots import ForkSlots
from pagi_sandbox.domain.model import Isolation, ToolCall, ToolOutcome

# After so many calls the child makes room for a fresh one.
_CALLS = 1000
_SLOWEST_S = 30.0


class ForkPure:
    """A child for pure tools, replaced after some calls, and whenever one does not end well."""

    def __init__(self, slots: ForkSlots, orders: bytes, isolation: Isolation) -> None:
        """`orders` are what its children run with, `isolation` what holds them."""
        self._slots = slots
        self._orders = orders
        self._isolation = isolation
        self._layers = isolation.active()
        self._loop = asyncio.get_running_loop()
        self._child: ForkPureChild | None = None
        # The present one, and those before it that have still something to do.
        self._children: dict[ForkSlot, ForkPureChild] = {}
        self._coming = False
        self._over = False
        self._open()

    async def run(self, call: ToolCall) -> ToolOutcome | None:
        """The outcome; None where the call has to go the ordinary way, which then tells what is wrong with it."""
        child, request = self._child, request_of(call)
        if child is None or not child.has_room(request):
            return None
        began = time.perf_counter()
        answer = await child.ask(request, call.limits)
        if child.served >= _CALLS and not self._coming:
            # It serves on until the next one is there.
            self._open()
        return None if answer is None else self._outcome(began, answer)

    def close(self) -> None:
        """Ends it."""
        self._over = True
        for slot in list(self._children):
            slot.lose()

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
        if not self._over:
            self._coming = True
            self._slots.open_pure(self._orders, self._ready, self._gone)

    def _ready(self, slot: ForkSlot) -> None:
        before, self._child = self._child, ForkPureChild(slot)
        self._children[slot] = self._child
        self._coming = False
        if before is not None:
            before.retire()

    def _gone(self, slot: ForkSlot) -> None:
        child = self._children.pop(slot, None)
        if child is None:
            # It never was ready. The next is not tried at once: calls go the ordinary way meanwhile.
            self._loop.call_later(_SLOWEST_S, self._open)
            return
        child.lost()
        if child is self._child:
            self._child = None
            if not self._coming:
                self._coming = True
                self._loop.call_soon(self._open)


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
