"""Reads a streamed answer: gathers its deltas for a moment, and tells a silent provider from a dead one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pagi_gateway.adapters.http_events import EventReader
from pagi_gateway.domain.errors import ProviderDownError, ProviderTimeoutError
from pagi_gateway.domain.model import ReasoningDelta, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import aiohttp

    from pagi_gateway.adapters.http_road import Deadline, HttpRoad
    from pagi_gateway.domain.model import Delta

# Deltas are sent on in chunks of at most this long: a message costs about the same whatever it holds.
GATHER_S = 0.020
# For the usage, which follows the last piece at once, where a server says neither that all was sent nor hangs up.
_AFTERWARDS_S = 2.0


class Parser(Protocol):
    """Understands one provider's events."""

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end; a body that ends before was cut."""

    @property
    def last(self) -> bool:
        """Whether nothing of use follows, so that reading stops."""

    def take(self, data: bytes) -> list[Delta]:
        """Takes the data of one event and returns what it brings."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stream may keep its listener waiting, in seconds.

    Attributes:
        first_s: For the first piece of the answer.
        between_s: For the next bytes of any kind after that: a provider that sends keepalives is silent, not dead.
        piece_s: For the next piece of the answer, keepalives or not.
    """

    first_s: float = math.inf
    between_s: float = math.inf
    piece_s: float = math.inf


async def deltas_of(
    road: HttpRoad,
    response: aiohttp.ClientResponse,
    deadline: Deadline,
    parser: Parser,
    patience: Patience,
    *,
    waited_s: float = 0.0,
) -> AsyncGenerator[Delta, None]:
    """Yields the deltas of a stream, gathered for at most `GATHER_S`, until the parser has the last event.

    Bytes are read only while somebody waits for a delta, so that a slow listener slows the provider.

    Args:
        road: To the server.
        response: Whose body is read.
        deadline: For all of it.
        parser: Understands the events.
        patience: How long the stream may keep its listener waiting.
        waited_s: How much of the time for the first piece is gone.

    Raises:
        PagiError: The stream was cut, came too slowly, grew too large, or is no answer.
    """
    reading = _Reading(road, response, deadline, parser, patience, waited_s)
    while not reading.ended:
        for delta in await reading.gathered():
            yield delta


class _Reading:
    """The state of one stream."""

    def __init__(
        self,
        road: HttpRoad,
        response: aiohttp.ClientResponse,
        deadline: Deadline,
        parser: Parser,
        patience: Patience,
        waited_s: float,
    ) -> None:
        self._road = road
        self._content = response.content
        self._deadline = deadline
        self._parser = parser
        self._patience = patience
        self._now = asyncio.get_running_loop().time
        self._events = EventReader()
        self._size = 0
        self._held: list[Delta] = []
        self._send_at = 0.0
        self._piece_by = self._now() + patience.first_s - waited_s
        self._answering = False
        self._over_at = math.inf
        self.ended = False

    async def gathered(self) -> list[Delta]:
        """Waits for deltas and returns what has come; nothing where the stream ended without more."""
        while not self.ended:
            wait = self._send_at - self._now()
            if self._held and wait <= 0:
                break
            if (piece := await self._bytes(wait if self._held else None)) is None:
                break
            self._take(piece)
        deltas, self._held = self._held, []
        if deltas:
            self._send_at = self._now() + GATHER_S
        return deltas

    async def _bytes(self, wait_s: float | None) -> bytes | None:
        """The next bytes; None where what is held has waited long enough."""
        if self._parser.whole:
            return await self._afterwards(wait_s)
        if wait_s is None:
            wait_s, late = self._longest()
        else:
            late = None
        try:
            async with asyncio.timeout(min(wait_s, self._deadline.left_s())):
                return await self._content.readany()
        except TimeoutError as error:
            if self._deadline.left_s() <= 0:
                raise self._deadline.missed() from error
            if late:
                raise late() from error
            return None

    async def _afterwards(self, wait_s: float | None) -> bytes | None:
        """What follows a whole answer; nothing where no more comes. Whatever goes wrong now, the answer is there."""
        import aiohttp

        self._over_at = min(self._over_at, self._now() + _AFTERWARDS_S)
        left = min(self._over_at - self._now(), self._deadline.left_s())
        try:
            async with asyncio.timeout(left if wait_s is None else min(wait_s, left)):
                return await self._content.readany()
        except TimeoutError:
            return None if wait_s is not None and wait_s < left else b""
        except (aiohttp.ClientError, OSError):
            return b""

    def _longest(self) -> tuple[float, Callable[[], ProviderTimeoutError]]:
        """How long the next bytes may take, and what it means when they do not come."""
        wait = max(0.0, self._piece_by - self._now())
        if self._answering and self._patience.between_s < wait:
            return self._patience.between_s, self._dead
        return wait, self._silent

    def _dead(self) -> ProviderTimeoutError:
        waited = self._patience.between_s
        return ProviderTimeoutError(
            f"{self._road.endpoint.place} sent nothing for {waited:g} s in the middle of a stream"
        )

    def _silent(self) -> ProviderTimeoutError:
        place = self._road.endpoint.place
        if not self._answering:
            return ProviderTimeoutError(f"{place} began no answer within {self._patience.first_s:g} s")
        return ProviderTimeoutError(f"{place} went on with no answer for {self._patience.piece_s:g} s")

    def _take(self, piece: bytes) -> None:
        if not piece:
            if not self._parser.whole:
                raise ProviderDownError(f"{self._road.endpoint.place} ended the stream before the answer was whole")
            self.ended = True
            return
        self._size = self._road.grown(self._size, piece)
        for data in self._events.feed(piece):
            for delta in self._parser.take(data):
                self._hold(delta)
            if self._parser.last:
                self.ended = True
                return

    def _hold(self, delta: Delta) -> None:
        self._answering = True
        self._piece_by = self._now() + self._patience.piece_s
        joined = _joined(self._held[-1], delta) if self._held else None
        if joined is None:
            self._held.append(delta)
        else:
            self._held[-1] = joined


def _joined(earlier: Delta, later: Delta) -> Delta | None:
    """Both as one, where they go on with the same thing."""
    if isinstance(earlier, TextDelta) and isinstance(later, TextDelta):
        return TextDelta(earlier.text + later.text)
    if isinstance(earlier, ReasoningDelta) and isinstance(later, ReasoningDelta):
        return ReasoningDelta(earlier.text + later.text)
    if isinstance(earlier, ToolCallDelta) and isinstance(later, ToolCallDelta) and earlier.index == later.index:
        arguments = earlier.arguments_json + later.arguments_json
        return ToolCallDelta(earlier.index, earlier.id or later.id, earlier.name + later.name, arguments)
    return None
