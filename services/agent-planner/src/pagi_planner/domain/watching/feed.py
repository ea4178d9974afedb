"""The one stream of events of each run, for as many as want to watch it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.ports import Journal
from pagi_planner.domain.state.events import Event
from pagi_planner.domain.watching.channel import Channel, LagBounds
from pagi_planner.domain.watching.live_text import LiveText
from pagi_planner.domain.watching.stream import Position
from pagi_planner.domain.watching.watcher import PAGE, Watcher

# A run waits for most of what it notes; what it does not wait for in this time, the feed does (seconds).
PATIENCE_S = 0.005


class Feed:
    """Lets runs be watched: their events once these are durable, the model's text as it comes.

    A run that nobody watches costs a look into a dictionary for each of its events.

    Args:
        journal: Where the events are written.
        bounds: How far a watcher may fall behind.
        poll_s: Other planners write the same journal, and it is looked at as often (seconds); None: only this one does.
    """

    def __init__(self, journal: Journal, *, bounds: LagBounds | None = None, poll_s: float | None = None) -> None:
        self._journal = journal
        self._bounds = bounds or LagBounds()
        self._poll_s = poll_s
        self._channels: dict[str, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._closed = ""

    @property
    def watchers(self) -> int:
        """How many watch, over all runs."""
        return sum(len(channel.watchers) for channel in self._channels.values())

    def is_watched(self, run_id: str) -> bool:
        """Whether anybody does now."""
        return (channel := self._channels.get(run_id)) is not None and bool(channel.watchers)

    def watch(self, run_id: str, after: Position | None = None, *, thoughts: bool = False) -> Watcher:
        """A watcher of a run; its context, or `close`, ends it.

        Args:
            run_id: Of a run that there is: nobody says here where there is none.
            after: What was seen before; None: the run begins now, and has noted nothing yet.
            thoughts: Whether to hear what the model thinks, too.
        """
        if (channel := self._channels.get(run_id)) is None:
            channel = self._channels[run_id] = Channel(run_id, self._bounds, self._forget)
        watcher = Watcher(self._journal, channel, after or Position(), hears_thoughts=thoughts)
        watcher.is_live = after is None
        channel.watchers.add(watcher)
        if self._closed:
            watcher.cut(self._closed)
        elif self._poll_s is not None and run_id not in self._polls:
            self._polls[run_id] = asyncio.create_task(self._poll(channel, self._poll_s), name=f"poll {run_id}")
        return watcher

    def noted(self, event: Event) -> None:
        """An event was put in line for the journal; who watches sees it when it is durable."""
        if channel := self._channels.get(event.run_id):
            channel.pending.append(event)
            if channel.clock is None:
                channel.clock = asyncio.get_running_loop().call_later(PATIENCE_S, self._see_to, channel)

    def synced(self, run_id: str, seq: int) -> None:
        """The events of a run are durable up to this one."""
        if (channel := self._channels.get(run_id)) and channel.pending:
            durable = [event for event in channel.pending if event.seq <= seq]
            channel.pending = channel.pending[len(durable) :]
            if not channel.pending:
                channel.rest()
            channel.publish(durable)

    @contextmanager
    def live_text(self, run_id: str, seq: int, step: int) -> Iterator[LiveText]:
        """Where the model's words go for the block, while it is asked; only for a run that is watched.

        Args:
            run_id: Which run.
            seq: The event with which the model is asked.
            step: Which call of the model it is, from 1.
        """
        channel = self._channels[run_id]
        channel.live = live = LiveText(seq, step, channel.grow)
        try:
            yield live
        finally:
            channel.fall_silent()

    def break_off(self, run_id: str, reason: str) -> None:
        """Nobody works on the run here any more although it has not ended: who watches is sent away."""
        if channel := self._channels.get(run_id):
            channel.cut(reason)

    def close(self, reason: str) -> None:
        """Sends everybody away, now and from now on."""
        self._closed = reason
        for channel in [*self._channels.values()]:
            channel.cut(reason)

    def _see_to(self, channel: Channel) -> None:
        """The run has noted something and goes on without waiting for it: it is waited for here."""
        task = asyncio.create_task(self._publish(channel), name=f"feed {channel.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, channel: Channel) -> None:
        """Hands on what was noted, each batch after its commit."""
        try:
            while events := channel.pending:
                channel.pending = []
                await self._journal.sync(channel.run_id)
                channel.publish(events)
        except JournalError as error:
            channel.pending = []
            channel.cut(error.message)
        finally:
            channel.rest()

    async def _poll(self, channel: Channel, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            if not any(watcher.is_live for watcher in channel.watchers):
                continue
            try:
                channel.publish(await self._journal.events(channel.run_id, after=channel.newest, limit=PAGE))
            except JournalError as error:
                channel.cut(error.message)

    def _forget(self, channel: Channel) -> None:
        # One that left late must not end what others hear by now.
        if self._channels.get(channel.run_id) is channel:
            del self._channels[channel.run_id]
            if poll := self._polls.pop(channel.run_id, None):
                poll.cancel()
