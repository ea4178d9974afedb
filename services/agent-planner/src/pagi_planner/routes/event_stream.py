"""Server-sent events: a watched run as an HTTP answer that goes on until the run ends.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec
from pagi_chassis.errors import PagiError
from starlette.responses import Response

from pagi_planner.domain.watching.stream import Item
from pagi_planner.domain.watching.watcher import Watcher

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
# A browser that lost the connection comes again after this (milliseconds).
_RETRY = b"retry: 1000\n\n"
_BEAT = b": beat\n\n"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stream waits.

    Attributes:
        beat_s: After so long without an event a comment is sent, so that nobody on the way takes it for dead.
        stall_s: A client that takes nothing for so long is gone.
    """

    beat_s: float = 15.0
    stall_s: float = 60.0


class View(Protocol):
    """How the items of a run look on the wire."""

    def show(self, items: Sequence[Item]) -> bytes:
        """The next events."""

    async def end(self) -> bytes:
        """What follows the last item; it may wait until the run is settled."""


def described(names: Iterable[str]) -> dict[str, Any]:
    """The `content` of such an answer in an OpenAPI document, whose schema is that of each event.

    Args:
        names: Of the events.
    """
    schema = {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string", "enum": sorted(names)},
            "id": {"type": "string", "description": "What to send as Last-Event-ID to go on behind it."},
            "data": {"type": "string", "contentMediaType": "application/json", "description": "A JSON object."},
        },
    }
    return {MEDIA_TYPE: {"schema": schema}}


def event(name: str, data: Any, event_id: str = "") -> bytes:
    """One event; what is in line ends of the data is escaped by JSON."""
    head = f"id: {event_id}\nevent: {name}\ndata: " if event_id else f"event: {name}\ndata: "
    return b"%b%b\n\n" % (head.encode(), _encode(data))


class EventStream(Response):
    """Sends what a watcher sees, in the words of a view.

    Args:
        watcher: Of the run; closed at the end.
        view: Makes the events.
        patience: See there.
        left: Called where the client leaves before the end.
        headers: More headers.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        watcher: Watcher,
        view: View,
        patience: Patience,
        *,
        left: Callable[[], Awaitable[object]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # nginx and its like would else keep events back until their buffer is full.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._watcher = watcher
        self._view = view
        self._patience = patience
        self._left = left
        self._has_left = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        with self._watcher, _Line(send, self._patience) as line:
            listening = asyncio.create_task(self._listen(receive), name="client of a stream")
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send(line)
            except asyncio.CancelledError:
                if not line.is_stalled:
                    raise
                # The server closes the connection, since the answer is not complete.
                log.warning("a client of a stream took nothing for %g s and is cut off", self._patience.stall_s)
            finally:
                if not self._has_left:
                    listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening

    async def _send(self, line: _Line) -> None:
        await line.say(_RETRY)
        while items := await self._watcher.next():
            await line.say(self._view.show(items))
        if not self._has_left:
            await line.say(await self._view.end(), more=False)

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._has_left = True
        self._watcher.close()
        if self._left:
            try:
                await self._left()
            except PagiError as error:
                # Nobody is there to be told.
                log.warning("what was to be done when a client leaves was not done: %s", error.message)


class _Line:
    """What a client is sent over, by one task: with beats while nothing is said, and an end where nothing is taken.

    A clock of its own, and not a timeout around each piece: that would cost a tenth of what a piece costs.
    """

    def __init__(self, send: Send, patience: Patience) -> None:
        self._send = send
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._last = self._loop.time()
        self._is_saying = False
        self._beat: asyncio.Task[None] | None = None
        self._clock = self._loop.call_later(patience.beat_s, self._look)
        self.is_stalled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.cancel()
        if self._beat:
            self._beat.cancel()
        if self.is_stalled and self._task:
            self._task.uncancel()

    async def say(self, chunk: bytes, *, more: bool = True) -> None:
        """Sends a piece; returns when there is room for the next one."""
        self._last, self._is_saying = self._loop.time(), True
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        self._last, self._is_saying = self._loop.time(), False

    def _look(self) -> None:
        quiet_s = self._loop.time() - self._last
        patience_s = self._patience.stall_s if self._is_saying else self._patience.beat_s
        if quiet_s < patience_s * 0.99:
            self._clock = self._loop.call_later(patience_s - quiet_s, self._look)
        elif not self._is_saying:
            self._beat = self._loop.create_task(self.say(_BEAT))
            self._clock = self._loop.call_later(self._patience.beat_s, self._look)
        elif self._task:
            self.is_stalled = True
            self._task.cancel()
