"""The requests in one child for pure tools: sent as they come, answered in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pagi_sandbox.adapters.fork_answer import Answer, read_answer
from pagi_sandbox.adapters.fork_slot import ForkSlot
from pagi_sandbox.domain.model import Limits, Verdict
from pagi_sandbox.zygote import wire

# What may be in line at once: it has to fit into the socket. A larger request or answer goes the ordinary way.
MOST_BYTES = 60_000
_MOST = 64
# How long a call waits for one before it that is slow; then it goes the ordinary way.
_PATIENCE_S = 0.05
_ENDS_WELL = frozenset({Verdict.OK, Verdict.FAILED})


@dataclass(slots=True)
class _Asked:
    """A request in line; its place stays when nobody waits for the answer any more."""

    answer: asyncio.Future[Answer | None]
    limits: Limits
    size: int

    def tell(self, answer: Answer | None) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class ForkPureChild:
    """One child. It is ended at the first request that does not end well; those behind it are answered None."""

    def __init__(self, slot: ForkSlot) -> None:
        """A child waits in the slot."""
        self._slot = slot
        self.served = 0
        self._loop = asyncio.get_running_loop()
        self._line: deque[_Asked] = deque()
        self._held = 0
        self._received = bytearray()
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._slow = False
        self._retired = False
        self._loop.add_reader(slot.work.fileno(), self._read)

    def has_room(self, request: bytes) -> bool:
        """Whether the request may be put in line."""
        free = self._slot.waits and not self._slow
        return free and len(self._line) < _MOST and self._held + len(request) <= MOST_BYTES

    async def ask(self, request: bytes, limits: Limits) -> Answer | None:
        """The answer; None where the call has to go the ordinary way."""
        try:
            sent = self._slot.work.send(request)
        except OSError:
            sent = 0
        if sent < len(request):
            self.end()
            return None
        asked = _Asked(self._loop.create_future(), limits, len(request))
        self._line.append(asked)
        self._held += asked.size
        if len(self._line) == 1:
            self._turn()
        try:
            return await asked.answer
        except asyncio.CancelledError:
            if self._line and self._line[0] is asked:
                self.end()
            raise

    def retire(self) -> None:
        """Ends it once all in line are answered."""
        self._retired = True
        if not self._line:
            self.end()

    def end(self) -> None:
        """Ends it at once."""
        self._slot.kill()
        self._slot.lose()

    def lost(self) -> None:
        """The slot is gone: who waits goes the ordinary way."""
        if self._timer is not None:
            self._timer.cancel()
        while self._line:
            self._line.popleft().tell(None)

    def _read(self) -> bool:
        """Takes what has come; returns whether there may be more."""
        try:
            data = self._slot.work.recv(65_536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._received += data
        served = self.served
        if not (data and all(self._take(told) for told in self._whole())):
            self.end()  # it ended, did not end well, or talks without being asked
            return False
        if self._line:
            if self.served > served:
                self._turn()
        elif self._retired:
            self.end()
            return False
        return True

    def _whole(self) -> Iterator[bytes | None]:
        """The answers that have come; None for one that is too long."""
        while len(self._received) >= wire.LENGTH.size:
            (length,) = wire.LENGTH.unpack_from(self._received)
            end = wire.LENGTH.size + length
            if length > MOST_BYTES:
                yield None
            if len(self._received) < end:
                return
            told = bytes(self._received[wire.LENGTH.size : end])
            del self._received[:end]
            yield told

    def _take(self, told: bytes | None) -> bool:
        """Tells the first in line; returns whether the child may go on."""
        if told is None or not self._line:
            return False
        asked = self._line.popleft()
        self._held -= asked.size
        self._slow = False
        answer = read_answer(told, asked.limits.memory_mb)
        if answer is None or answer.verdict not in _ENDS_WELL:
            asked.tell(None)
            return False
        self.served += 1
        asked.tell(answer)
        return True

    def _turn(self) -> None:
        """The child may be at work on the first in line from now on."""
        self._began = self._loop.time()
        due = self._began + min(_PATIENCE_S, self._line[0].limits.timeout_ms / 1000)
        # A timer that is due too early looks and sets another: seldomer than one a request.
        if self._timer is None or due < self._due:
            self._look_at(due)

    def _look_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        # After a stall of ours the answers may lie in the socket: uvloop runs timers before sockets.
        while self._read():
            pass
        if not self._line:
            return
        first, now = self._line[0], self._loop.time()
        over = self._began + first.limits.timeout_ms / 1000
        if now >= over:
            why = f"the tool did not end within {first.limits.timeout_ms} ms and was stopped"
            first.tell(Answer(Verdict.TIMEOUT, "", why))
            self.end()
            return
        patience = self._began + _PATIENCE_S
        if now >= patience:
            self._slow = True
            for asked in list(self._line)[1:]:
                asked.tell(None)
        self._look_at(over if self._slow else min(over, patience))
