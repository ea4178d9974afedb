"""What a call prints, while it runs."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from pagi_sandbox.domain.model import Stream, ToolOutcome, Verdict
from pagi_sandbox.domain.ports import CallWatcher

# What is printed within this time goes as one.
_GATHER_S = 0.02


@dataclass(frozen=True, slots=True)
class OutputDelta:
    """What was printed next. All deltas of a stream together are the outcome's text of it."""

    stream: Stream
    text: str


class LiveOutput:
    """A CallWatcher that gathers what is printed for about 20 ms.

    Bytes become text here, by the same rules as in the outcome: a character is never split, and what is no UTF-8 is
    replaced. A slow listener costs no more memory than the call's limit on output.
    """

    def __init__(self) -> None:
        """Hears nothing yet."""
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in Stream}
        self._gathered: list[tuple[Stream, list[str]]] = []
        self._some = asyncio.Event()

    def began(self, stop: Callable[[Verdict, str], None]) -> None:
        """Nothing to do; see CallWatcher."""

    def printed(self, stream: Stream, data: bytes) -> None:
        """Gathers; see CallWatcher."""
        self._add(stream, self._decoders[stream].decode(data))

    def _add(self, stream: Stream, text: str) -> None:
        if not text:
            return
        if self._gathered and self._gathered[-1][0] is stream:
            self._gathered[-1][1].append(text)
        else:
            self._gathered.append((stream, [text]))
        self._some.set()

    def _take(self) -> list[OutputDelta]:
        gathered, self._gathered = self._gathered, []
        self._some.clear()
        return [OutputDelta(stream, "".join(texts)) for stream, texts in gathered]

    async def follow(self, ended: asyncio.Task[ToolOutcome]) -> AsyncIterator[OutputDelta]:
        """What is printed until the task ends, and what is left then."""
        some: asyncio.Task[bool] | None = None
        try:
            while not ended.done():
                some = asyncio.create_task(self._some.wait())
                await asyncio.wait({some, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    await asyncio.wait({ended}, timeout=_GATHER_S)
                    for delta in self._take():
                        yield delta
        finally:
            if some is not None:
                some.cancel()
        for stream, decoder in self._decoders.items():
            self._add(stream, decoder.decode(b"", final=True))
        for delta in self._take():
            yield delta


async def stream(
    execute: Callable[[CallWatcher], Awaitable[ToolOutcome]],
) -> AsyncGenerator[OutputDelta | ToolOutcome, None]:
    """Runs a call and gives what it prints as it comes, then its outcome. Leaving the iteration cancels the call."""
    live = LiveOutput()
    call = asyncio.ensure_future(execute(live))
    try:
        async for delta in live.follow(call):
            yield delta
        yield await call
    finally:
        call.cancel()
        await asyncio.wait({call})
