"""Queries that wait for the model at the same time are embedded in one run of it.

A run of a short query begins by reading all weights, which other work has pushed out of the processor's cache
meanwhile: 2.2 ms of CPU for one query of 17 tokens, 1.6 for each of four that run together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

# More at once save little, and the first one waits for the last.
MOST_TOGETHER = 4
# Tokens of all of them: with long texts the weights are a small part, and short ones would wait.
MOST_TOKENS = 128
# A token of padding costs 0.1 ms; reading the weights once more costs 0.6.
MOST_PADDING = 4


@dataclass(slots=True, eq=False)
class _Asked:
    text: str
    answer: asyncio.Future[Vector]
    tokens: list[int] = field(default_factory=list)


class QueryBatches:
    """Embeds queries on one thread, those that wait together where their lengths are alike.

    Args:
        thread: One that runs one function at a time.
        tokens: The numbers of the tokens of a text.
        run: The vectors of texts, given by their tokens.
    """

    def __init__(
        self,
        thread: Executor,
        tokens: Callable[[str], list[int]],
        run: Callable[[Sequence[list[int]]], Sequence[Vector]],
    ) -> None:
        self._thread = thread
        self._tokens = tokens
        self._run = run
        self._asked: deque[_Asked] = deque()
        self._serving: asyncio.Future[None] | None = None

    async def embed(self, text: str) -> Vector:
        """The vector of a query; whatever its text or the model makes fail is raised.

        Raises:
            RuntimeError: The thread has ended.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(text, loop.create_future())
        self._asked.append(asked)
        if self._serving is None:
            self._begin(loop)
        return await asked.answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._serving = loop.run_in_executor(self._thread, self._serve, loop)
        except RuntimeError as error:
            while self._asked:
                _tell([self._asked.popleft()], error)
            return
        self._serving.add_done_callback(lambda _: self._served(loop))

    def _served(self, loop: asyncio.AbstractEventLoop) -> None:
        self._serving = None
        # Asked after the thread had looked for the last time.
        if self._asked:
            self._begin(loop)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the thread, until nobody waits."""
        waiting: list[_Asked] = []
        while True:
            while self._asked:
                asked = self._asked.popleft()
                try:
                    asked.tokens = self._tokens(asked.text)
                except Exception as error:  # noqa: BLE001 - whoever asked gets it
                    loop.call_soon_threadsafe(_tell, [asked], error)
                else:
                    waiting.append(asked)
            # Who has gone wants nothing any more.
            waiting = [asked for asked in waiting if not asked.answer.cancelled()]
            if not waiting:
                return
            some = _together(waiting)
            waiting = [asked for asked in waiting if asked not in some]
            found: Sequence[Vector] | Exception
            try:
                found = self._run([asked.tokens for asked in some])
            except Exception as error:  # noqa: BLE001 - whoever asked gets it
                found = error
            loop.call_soon_threadsafe(_tell, some, found)


def _together(waiting: Sequence[_Asked]) -> list[_Asked]:
    """Whoever waits longest, with others that are about as long."""
    some: list[_Asked] = []
    least = most = len(waiting[0].tokens)
    for asked in waiting:
        shortest, longest = min(least, len(asked.tokens)), max(most, len(asked.tokens))
        is_alike = longest - shortest <= MOST_PADDING and (len(some) + 1) * longest <= MOST_TOKENS
        if not some or is_alike:
            some.append(asked)
            least, most = shortest, longest
        if len(some) == MOST_TOGETHER:
            break
    return some


def _tell(some: Sequence[_Asked], found: Sequence[Vector] | Exception) -> None:
    for place, asked in enumerate(some):
        if asked.answer.done():
            continue
        if isinstance(found, Exception):
            asked.answer.set_exception(found)
        else:
            asked.answer.set_result(found[place])
