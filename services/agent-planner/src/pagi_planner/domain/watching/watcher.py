"""One who follows a run: first what the journal has, then what happens, nothing twice and nothing left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.ports import Journal
from pagi_planner.domain.state.events import FINAL, Event, EventType
from pagi_planner.domain.watching.channel import Channel
from pagi_planner.domain.watching.live_text import LiveText
from pagi_planner.domain.watching.stream import CutOff, Happened, Item, Position, TextDelta, TextReset, ThoughtDelta

# So many events are read from the journal at once: what a client that reads slowly makes us hold.
PAGE = 20
# What the model says and thinks stands between these.
_AROUND_TEXT = (EventType.PLAN_MODEL_REQUEST, EventType.PLAN_MODEL_RESPONSE)


class Watcher:
    """Gives the items of one run behind a position, and ends with the run.

    It holds a position and no queue: what is new lies with the run, once for all who watch it.

    Args:
        journal: Where the past is read.
        channel: Where the present is heard.
        position: What was seen before.
        hears_thoughts: Whether it gives what the model thinks, too.
    """

    def __init__(self, journal: Journal, channel: Channel, position: Position, *, hears_thoughts: bool = False) -> None:
        self.position = position if hears_thoughts else position.without_thoughts()
        self.hears_thoughts = hears_thoughts
        # Whose thoughts it is giving.
        self._thinking: LiveText | None = None
        # Whether it has caught up with the run and now lives by what the channel says.
        self.is_live = False
        # Whether it waits for more: one that does is not slow.
        self.is_waiting = False
        self._journal = journal
        self._channel = channel
        self._woken = asyncio.Event()
        self._version: object = None
        self._reason = ""
        self._has_synced = False
        # Whether it has given its last item.
        self.is_done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Item]:
        while items := await self.next():
            for item in items:
                yield item

    async def next(self) -> Sequence[Item]:
        """What is new, as soon as there is something; nothing at the end, or after `close`."""
        while not self.is_done:
            self._woken.clear()
            if self._reason:
                self.close()
                return [CutOff(self.position, self._reason)]
            events = self._channel.behind(self.position.seq) if self.is_live else None
            if events is None:
                try:
                    events = await self._read()
                except JournalError as error:
                    self.cut(error.message)
                    continue
            if items := self._taken(events):
                return items
            if not self.is_done and not self._reason:
                await self._wait()
        return ()

    def wake(self) -> None:
        """There may be something new."""
        self._woken.set()

    def cut(self, reason: str) -> None:
        """Ends it with a last item that says why."""
        self._reason = self._reason or reason
        self.wake()

    def close(self) -> None:
        """Ends it."""
        self.is_done = True
        self._channel.leave(self)
        self.wake()

    async def _wait(self) -> None:
        self.is_waiting = True
        try:
            await self._woken.wait()
        finally:
            self.is_waiting = False

    async def _read(self) -> Sequence[Event]:
        """The next events of the journal."""
        if not self._has_synced:
            # What was on its way to the journal before somebody watched is there after this.
            with suppress(JournalError):
                await self._journal.sync(self._channel.run_id)
            self._has_synced = True
        page = await self._journal.events(self._channel.run_id, after=self.position.seq, limit=PAGE)
        self.is_live = len(page) < PAGE
        return page

    def _taken(self, events: Sequence[Event]) -> list[Item]:
        """The items of some events, and of what the model says after them."""
        items: list[Item] = []
        for event in events:
            self._take(event, items)
        if self.is_live and not self.is_done and (live := self._channel.live) and live.seq <= self.position.seq:
            self._hear(live, items)
        return items

    def _take(self, event: Event, items: list[Item]) -> None:
        if event.type is EventType.PLAN_MODEL_RESPONSE:
            if self.hears_thoughts and (live := self._channel.thought_in(event.data["step"])):
                self._think(live, items, is_whole=True)
            self._say(event.data["text"], event.data["step"], items)
            event = _shown(event)
        elif event.type is EventType.PLAN_MODEL_REQUEST and self.position.offset:
            # The answer to the question before it broke off.
            self._reset(event.data["step"] - 1, items)
        position = self.position
        is_between = event.type in FINAL or event.type in _AROUND_TEXT
        self.position = Position(event.seq) if is_between else position._replace(seq=event.seq)
        items.append(Happened(self.position, event))
        if event.type in FINAL:
            self.close()

    def _hear(self, live: LiveText, items: list[Item]) -> None:
        if self.hears_thoughts:
            self._think(live, items, is_whole=False)
        if live.version is not self._version:
            if self.position.offset > len(live.text):
                # The model was asked again, and has not come as far as before.
                return
            self._version = live.version
            self._say(live.text, live.step, items)
        elif text := live.text[self.position.offset :]:
            self._append(text, live.step, items)

    def _think(self, live: LiveText, items: list[Item], *, is_whole: bool) -> None:
        """Gives what is left of the thoughts; all of them where what was heard is not how they begin."""
        if live is not self._thinking:
            if self.position.thought_offset > len(live.thoughts) and not is_whole:
                # The model was asked again, and has not come as far as before.
                return
            self._thinking = live
            if not self.position.fits_thoughts(live.thoughts):
                self.position = self.position.without_thoughts()
        if rest := live.thoughts[self.position.thought_offset :]:
            self.position = self.position.behind_thoughts(rest)
            items.append(ThoughtDelta(self.position, live.step, rest))

    def _say(self, text: str, step: int, items: list[Item]) -> None:
        """Gives what is left of the text; begins anew where what was given is not how it begins."""
        if self.position.offset and not self.position.fits(text):
            self._reset(step, items)
        if rest := text[self.position.offset :]:
            self._append(rest, step, items)

    def _append(self, text: str, step: int, items: list[Item]) -> None:
        self.position = self.position.behind(text)
        items.append(TextDelta(self.position, step, text))

    def _reset(self, step: int, items: list[Item]) -> None:
        self.position = self.position._replace(offset=0, checksum=0)
        items.append(TextReset(self.position, step))


def _shown(answer: Event) -> Event:
    """A PLAN_MODEL_RESPONSE for people: what goes back to the model's provider is none of theirs."""
    if "reasoning" not in answer.data:
        return answer
    return replace(answer, data={name: value for name, value in answer.data.items() if name != "reasoning"})
