"""One call of a model that several callers wait for, and may join while it runs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from pagi_gateway.domain.deltas import deltas_of
from pagi_gateway.domain.errors import ProviderTimeoutError
from pagi_gateway.domain.model import Plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from pagi_gateway.domain.model import Delta

T = TypeVar("T")


class JoinedCall:
    """A call in a task of its own, so that it outlives whoever began it.

    What a stream has brought is kept until its end: who joins gets it first. The provider is read no faster than
    the fastest of its readers reads.

    Args:
        fingerprint: Of the request.
        answered: Is told the answer when it is there.
    """

    def __init__(self, fingerprint: str, answered: Callable[[Plan], None]) -> None:
        self.fingerprint = fingerprint
        self.waiting = 0
        self.begun = False
        self._answered = answered
        self._events: list[Delta | Plan] = []
        self._is_stream = False
        # How many events some reader has asked for.
        self._wanted = 0
        self._demand: asyncio.Future[None] | None = None
        self._readers: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[Plan]

    def ask(self, answer: Awaitable[Plan], ended: Callable[[], None]) -> None:
        """Begins, by asking for the whole answer."""
        self._begin(self._whole(answer), ended)

    def ask_stream(self, events: AsyncGenerator[Delta | Plan, None], ended: Callable[[], None]) -> None:
        """Begins, by asking for a stream."""
        self._is_stream = True
        self._begin(self._pumped(events), ended)

    async def plan(self, left_s: float | None) -> Plan:
        """Waits for the whole answer, for `left_s` seconds (None: as long as it takes).

        Raises:
            ProviderTimeoutError: It was not there in time; the call goes on.
        """
        if not self._is_stream:
            return await _within(left_s, asyncio.shield(self._task))
        async with aclosing(self.events(left_s)) as events:
            async for event in events:
                if isinstance(event, Plan):
                    return event
        raise AssertionError("a stream ends with its plan, or raises")

    async def events(self, left_s: float | None) -> AsyncGenerator[Delta | Plan, None]:
        """What has come so far and then what comes; raises as `plan` does."""
        if not self._is_stream:
            plan = await self.plan(left_s)
            for delta in deltas_of(plan):
                yield delta
            yield plan
            return
        loop = asyncio.get_running_loop()
        ends = None if left_s is None else loop.time() + left_s
        seen = 0
        while True:
            while seen < len(self._events):
                yield self._events[seen]
                seen += 1
            if self._task.done():
                self._task.result()
                return
            await _within(None if ends is None else ends - loop.time(), self._next(seen))

    async def leave(self) -> bool:
        """One caller less; the last one ends a call that is not answered. Returns whether that was so."""
        self.waiting -= 1
        if self.waiting or self._task.done():
            return False
        self._task.cancel()
        # The provider's socket is closed when this returns.
        await asyncio.wait({self._task})
        return True

    def _begin(self, work: Awaitable[Plan], ended: Callable[[], None]) -> None:
        self._task = asyncio.ensure_future(work)

        def done(task: asyncio.Task[Plan]) -> None:
            # Looked at, since whoever waited may have left.
            _ = task.cancelled() or task.exception()
            ended()
            self._wake()

        self._task.add_done_callback(done)

    async def _whole(self, answer: Awaitable[Plan]) -> Plan:
        plan = await answer
        self._answered(plan)
        return plan

    async def _pumped(self, events: AsyncGenerator[Delta | Plan, None]) -> Plan:
        plan: Plan | None = None
        async with aclosing(events):
            async for event in events:
                self._events.append(event)
                self.begun = True
                self._wake()
                if isinstance(event, Plan):
                    plan = event
                    self._answered(event)
                elif len(self._events) >= self._wanted:
                    await self._asked_for_more()
        assert plan is not None, "a stream ends with its plan, or raises"
        return plan

    async def _asked_for_more(self) -> None:
        self._demand = asyncio.get_running_loop().create_future()
        await self._demand

    def _next(self, seen: int) -> asyncio.Future[None]:
        """Done when there is more than was seen, or will be nothing."""
        self._wanted = max(self._wanted, seen + 1)
        if self._demand is not None and not self._demand.done():
            self._demand.set_result(None)
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.append(reader)
        return reader

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
        self._readers.clear()


async def _within(left_s: float | None, coming: asyncio.Future[T]) -> T:
    if left_s is None:
        return await coming
    try:
        async with asyncio.timeout(left_s):
            return await coming
    except TimeoutError as error:
        raise ProviderTimeoutError("the call that this one joined did not answer in time") from error
