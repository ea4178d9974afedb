"""What is new of one run, held once for all who watch it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from pagi_planner.domain.state.events import Event
from pagi_planner.domain.watching.live_text import LiveText
from pagi_planner.domain.watching.stream import Position


class Listener(Protocol):
    """One who follows a run: a `Watcher`."""

    position: Position
    is_live: bool
    is_waiting: bool
    hears_thoughts: bool

    def wake(self) -> None:
        """There may be something new."""

    def cut(self, reason: str) -> None:
        """It is sent away."""


@dataclass(frozen=True, slots=True)
class LagBounds:
    """How far a watcher may fall behind before it is sent away.

    Attributes:
        events: Of the journal.
        bytes: Of their data as JSON, or of the text that the model gives (characters).
    """

    events: int = 500
    bytes: int = 4 * 1024 * 1024


class Channel:
    """The newest durable events of a run and the text that its model is giving.

    Args:
        run_id: Which run.
        bounds: How much is held, which is how far a watcher may fall behind.
        on_idle: Called when nobody watches and the model gives no text.
    """

    def __init__(self, run_id: str, bounds: LagBounds, on_idle: Callable[[Channel], None]) -> None:
        self.run_id = run_id
        self.watchers: set[Listener] = set()
        self.live: LiveText | None = None
        # What the model thought in its last calls, by step: the journal does not have it.
        self._thought: dict[int, LiveText] = {}
        # Noted and not yet durable.
        self.pending: list[Event] = []
        # Runs from the first event that is pending until none is.
        self.clock: asyncio.TimerHandle | None = None
        self._bounds = bounds
        self._on_idle = on_idle
        self._recent: deque[tuple[Event, int]] = deque()
        self._bytes = 0

    @property
    def newest(self) -> int:
        """The place of the newest event that a watcher may know."""
        published = self._recent[-1][0].seq if self._recent else 0
        return max([published, *(watcher.position.seq for watcher in self.watchers)])

    def behind(self, seq: int) -> Sequence[Event] | None:
        """The events behind a place; None where some of them are held no longer."""
        if not self._recent or self._recent[-1][0].seq <= seq:
            return ()
        if self._recent[0][0].seq > seq + 1:
            return None
        return [event for event, _ in self._recent if event.seq > seq]

    def publish(self, events: Sequence[Event]) -> None:
        """Hands on what is durable, in order; what was handed on before is left out."""
        for event in events:
            last = self._recent[-1][0].seq if self._recent else 0
            if event.seq <= last:
                continue
            if last and event.seq != last + 1:
                # What lies between them is in the journal.
                self._recent.clear()
                self._bytes = 0
            size = len(msgspec.json.encode(event.data))
            self._recent.append((event, size))
            self._bytes += size
        while len(self._recent) > self._bounds.events or (self._bytes > self._bounds.bytes and len(self._recent) > 1):
            self._bytes -= self._recent.popleft()[1]
        if self._recent:
            first = self._recent[0][0].seq
            self._wake(lambda watcher: watcher.position.seq + 1 < first)

    def grow(self, live: LiveText) -> None:
        """The model has said more."""
        said, thought = len(live.text) - self._bounds.bytes, len(live.thoughts) - self._bounds.bytes
        if said <= 0 and thought <= 0:
            for watcher in self.watchers:
                watcher.wake()
        else:
            self._wake(
                lambda watcher: (
                    watcher.position.offset < said
                    or (watcher.hears_thoughts and watcher.position.thought_offset < thought)
                )
            )

    def thought_in(self, step: int) -> LiveText | None:
        """What the model thought in a step; None where it did not, or nobody watched, or that was long ago."""
        return self._thought.get(step)

    def fall_silent(self) -> None:
        """The model has given its answer."""
        if self.live and self.live.thoughts:
            self._thought.pop(self.live.step, None)
            self.live.forget_text()
            self._thought[self.live.step] = self.live
            while len(self._thought) > 1 and sum(map(_thoughts, self._thought.values())) > self._bounds.bytes:
                del self._thought[next(iter(self._thought))]
        self.live = None
        self.settle()

    def cut(self, reason: str) -> None:
        """Sends every watcher away."""
        for watcher in self.watchers:
            watcher.cut(reason)

    def leave(self, watcher: Listener) -> None:
        """The watcher is gone."""
        self.watchers.discard(watcher)
        self.settle()

    def settle(self) -> None:
        """Says so where nobody needs it any more."""
        if not self.watchers and self.live is None:
            self._on_idle(self)

    def rest(self) -> None:
        """Nothing is pending any more."""
        if self.clock:
            self.clock.cancel()
            self.clock = None

    def _wake(self, is_far_behind: Callable[[Listener], bool]) -> None:
        for watcher in self.watchers:
            if watcher.is_live and not watcher.is_waiting and is_far_behind(watcher):
                watcher.cut("you read too slowly: the run is too far ahead; go on with the id that you saw last")
            else:
                watcher.wake()


def _thoughts(live: LiveText) -> int:
    return len(live.thoughts)
