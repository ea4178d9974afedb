"""A client that watches a run, loses its connection, and comes again with the id that it saw last."""

from __future__ import annotations

import asyncio

from pagi_planner.domain.errors import RunNotFoundError
from pagi_planner.domain.keeping.begun_run import BegunRun
from pagi_planner.domain.watching.stream import CutOff, Happened, Item, Position, TextDelta, TextReset
from pagi_planner.domain.watching.watcher import Watcher
from stepped_planner import Planner, World


class Client:
    """Puts together what it is given, and finds what was missed, came twice, or was not durable.

    Args:
        world: Where the run is.
        run_id: Which.
    """

    def __init__(self, world: World, run_id: str) -> None:
        self.run_id = run_id
        self.seen = 0
        self.last_id = ""
        self.cut_off = ""
        self._world = world
        self._said = ""
        self._planner: Planner | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether it hears what happens."""
        at = self._planner
        return at is not None and at.is_alive and self._listening is not None and not self._listening.done()

    def follow(self, planner: Planner, begun: BegunRun) -> None:
        """Watches from the beginning, as the client that begins a run does; to be called by the planner."""
        self._planner = planner
        self._listening = planner.loop.create_task(self._listen(planner.runs.follow(begun)))

    def connect(self, planner: Planner) -> None:
        """Comes again, with the id that it saw last."""
        self._planner = planner
        self._listening = planner.loop.create_task(self._come_again(planner))

    def leave(self) -> None:
        """Closes the connection."""
        if self.is_connected and self._listening:
            self._listening.cancel()

    async def _come_again(self, planner: Planner) -> None:
        after = Position.parse(self.last_id) if self.last_id else Position()
        try:
            watcher = await planner.runs.watch(self.run_id, after)
        except RunNotFoundError:
            if self.seen:
                self._world.faults.append(f"{self.run_id}, of which a client has seen {self.seen}, is not known")
            return
        await self._listen(watcher)

    async def _listen(self, watcher: Watcher) -> None:
        with watcher:
            async for item in watcher:
                # What a dead planner was about to send does not arrive.
                if self.is_connected:
                    self._take(item)

    def _take(self, item: Item) -> None:
        if isinstance(item, CutOff):
            self.cut_off = item.reason
            return
        self.last_id = str(item.position)
        if isinstance(item, TextDelta):
            self._said += item.text
        elif isinstance(item, TextReset):
            self._said = ""
        elif isinstance(item, Happened):
            self._take_event(item)

    def _take_event(self, item: Happened) -> None:
        event, told = item.event, self._world.faults.append
        if event.seq != self.seen + 1:
            told(f"who watches {self.run_id} is given event {event.seq} behind {self.seen}")
        self.seen = event.seq
        durable = self._world.events.get(self.run_id, [])
        if len(durable) < event.seq or durable[event.seq - 1].type is not event.type:
            told(f"who watches {self.run_id} is given event {event.seq}, {event.type}, which is not durable")
        if event.type.value == "PLAN_MODEL_RESPONSE":
            if self._said != event.data["text"]:
                told(f"who watches {self.run_id} has heard {self._said!r}, and {event.data['text']!r} was said")
            self._said = ""
