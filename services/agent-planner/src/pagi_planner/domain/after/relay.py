"""Hands events of the journal to those who must hear of them: at least once, in order, however long they are away.

Of several planners with one journal it is one at a time that does so for each reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from pagi_chassis import correlation, telemetry
from pagi_chassis.errors import InternalError, PagiError

from pagi_planner.domain.errors import AWAY
from pagi_planner.domain.ports import JournalTail
from pagi_planner.domain.state.events import Event, EventType

T = TypeVar("T")
# Says of each event why it was refused; empty: it was not.
Deliver = Callable[[Sequence[Event]], Awaitable[Sequence[str]]]

log = logging.getLogger(__name__)

BATCH = 200
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
# A receiver that says "internal error" to one event so often (for about 20 s) will not take it later either.
MOST_FAULTS = 10


class Relay:
    """A reader of the journal with a cursor of its own.

    Args:
        name: Of the cursor.
        tail: The journal.
        types: The events that are handed on.
        deliver: Takes some events in their order, and must bear to be given them again; see `Deliver`. One who is away
            is met with patience; an event that is refused, or met with faults too often, is logged and left behind: it
            must not hold up the rest.
        delay_s: Time between hearing of an event and delivering it: lets a burst become one batch.
    """

    def __init__(
        self,
        name: str,
        tail: JournalTail,
        types: Collection[EventType],
        deliver: Deliver,
        *,
        delay_s: float = 0.025,
    ) -> None:
        self._name = name
        self._tail = tail
        self._types = types
        self._deliver = deliver
        self._delay_s = delay_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins where the cursor stands."""
        self._task = asyncio.create_task(self._run(), name=f"relay {self._name}")

    async def stop(self) -> None:
        """Ends; what was not delivered is delivered after the next start."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self._read()
                pause = FIRST_PAUSE_S
            except Exception:
                # Of ours: a reader that ended here would be missed by nobody until people ask why they hear nothing.
                log.exception("%s begins again where its cursor stands", self._name)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _read(self) -> None:
        """Hands on what comes, for as long as it is this planner's turn."""
        await self._tail.turn(self._name)
        position = await self._patiently(partial(self._tail.cursor, self._name))
        while self._tail.has_turn(self._name):
            await self._tail.wait(position)
            await asyncio.sleep(self._delay_s)
            if self._tail.has_turn(self._name):
                position = await self._pass_on(position)

    async def _pass_on(self, position: int) -> int:
        """Delivers what stands behind the position and returns the new one."""
        end = self._tail.last_position
        while batch := await self._patiently(partial(self._tail.after, position, self._types, BATCH)):
            if not self._tail.has_turn(self._name):
                return position
            # Stopped in the middle of a batch, the next start repeats that one at most.
            await self._hand_over([event for _, event in batch])
            position = batch[-1][0]
            self._tail.advance(self._name, position)
        # What was read and is of other types need not be read again.
        return max(position, end)

    async def _hand_over(self, events: Sequence[Event]) -> None:
        """Delivers the events together; each by itself where one of them makes that fail."""
        if len(events) == 1:
            await self._hand_over_one(events[0])
            return
        try:
            refusals = await self._patiently(partial(self._deliver, events))
        except Exception as error:  # noqa: BLE001 - which event it is about, and what it is, is found out one by one
            log.debug("%s delivers %d events one by one: %s", self._name, len(events), error)
            for event in events:
                await self._hand_over_one(event)
        else:
            self._say(events, refusals)

    async def _hand_over_one(self, event: Event) -> None:
        with (
            correlation.bind(trace_id=event.trace_id, run_id=event.run_id, session_id=event.session_id),
            telemetry.attach({key: value for key, value in event.data.items() if key == "traceparent"}),
        ):
            try:
                self._say([event], await self._patiently(partial(self._deliver, [event])))
            except PagiError as error:
                self._say([event], [error.message])
            except Exception:
                # A fault of ours with one event; the relay must live for the others.
                log.exception("%s: %s of %s is left behind", self._name, event.type, event.run_id)

    def _say(self, events: Sequence[Event], refusals: Sequence[str]) -> None:
        for event, refusal in zip(events, refusals, strict=False):
            if refusal:
                log.error("%s: %s of %s is left behind: %s", self._name, event.type, event.run_id, refusal)

    async def _patiently(self, action: Callable[[], Awaitable[T]]) -> T:
        """Repeats the action while somebody is away, with growing pauses; says so once."""
        pause = FIRST_PAUSE_S
        faults = 0
        while True:
            try:
                result = await action()
            except AWAY as error:
                faults += isinstance(error, InternalError)
                if faults == MOST_FAULTS:
                    raise
                if pause == FIRST_PAUSE_S:
                    log.warning("%s waits: %s", self._name, error)
            else:
                if pause != FIRST_PAUSE_S:
                    log.info("%s goes on", self._name)
                return result
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
