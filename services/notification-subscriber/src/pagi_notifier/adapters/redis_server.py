"""One connection to Redis that outlives the server: calls wait for its return and say so once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pagi_notifier.adapters.prometheus_figures import REDIS_UP
from pagi_notifier.domain.errors import InboxUnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
# Each pause is twice the one before, up to the longest. Counted no further: the library's own arithmetic ends with an
# error after a thousand failures, which is a quarter of an hour.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _MOST_DOUBLINGS = 0.1, 1.0, 10
SILENCE_S = 5.0  # beyond what a command may block: the server hangs, or the network swallows


class RedisServer:
    """Calls Redis, again and again while it is away.

    The library's own retry is off: it does not tell the operator why it waits.

    Args:
        url: redis:// or rediss:// URL.
        longest_block_s: The longest time that a blocking command asks for, in seconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self, url: str, *, longest_block_s: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._sleep = sleep
        at_once = Retry(NoBackoff(), 0)
        self._redis: Redis = Redis.from_url(
            url, retry=at_once, socket_connect_timeout=2, socket_timeout=longest_block_s + SILENCE_S
        )
        self._probe: Redis = Redis.from_url(url, retry=at_once, socket_connect_timeout=0.8, socket_timeout=0.8)
        options = self._redis.connection_pool.connection_kwargs
        self.address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self._lost = False

    async def call(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """Runs a command; while the server is away it is repeated, at most 1 s apart.

        A command that was cut off midway is repeated too, so it must bear that.

        Raises:
            redis.exceptions.ResponseError: The server answered, and refused.
        """
        failures = 0
        while True:
            try:
                answer = await command(self._redis)
            except _LOST as error:
                self._lose(error)
                await self._sleep(min(_FIRST_PAUSE_S * 2 ** min(failures, _MOST_DOUBLINGS), _LONGEST_PAUSE_S))
                failures += 1
            else:
                self._find()
                return answer

    async def ping(self) -> None:
        """Asks once, on a connection of its own.

        Raises:
            InboxUnavailableError: No answer.
        """
        try:
            # The stubs name one return type for the blocking and the asyncio client.
            pong: Any = self._probe.ping()
            await pong
        except (RedisError, OSError) as error:
            raise InboxUnavailableError(f"Redis at {self.address} does not answer: {error}") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
        await self._probe.aclose()

    def _lose(self, error: BaseException) -> None:
        if not self._lost:
            log.warning("Redis at %s is away, trying until it answers: %s", self.address, error or type(error).__name__)
        self._lost = True
        REDIS_UP.set(0)

    def _find(self) -> None:
        if self._lost:
            log.info("Redis at %s is back", self.address)
        self._lost = False
        REDIS_UP.set(1)
