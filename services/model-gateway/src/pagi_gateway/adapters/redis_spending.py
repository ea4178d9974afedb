"""Budgets of several gateways: counted in Redis or Valkey, each step by one script."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from pagi_gateway.adapters.redis_scripts import COUNTED, RESERVE, SETTLE
from pagi_gateway.domain.budgets import Amounts, Shortage
from pagi_gateway.domain.errors import BudgetStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagi_gateway.domain.budgets import Claim

log = logging.getLogger(__name__)

_PREFIX = "pagi:{budgets}:"
# A call settles in the counters in which it began, maybe after their end.
_KEPT_S = 3600
# How long it is remembered that a call was settled: longer than anybody tries to settle it.
_MARK_S = 3600
_ANSWER_S = 2.0
_CONNECTIONS = 32
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
# Calls that wait to be settled while Redis is away; about 1 KB each.
_MOST_WAITING = 20_000


class RedisSpending:
    """A BudgetStore and a component.

    The gateways' clocks say what is dead: they must agree within the seconds by which a lease is too long.

    Args:
        url: redis://, rediss:// or unix:// URL.
        now: Seconds since 1970.
        answer_s: How long Redis may take for one answer, in seconds.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.time, answer_s: float = _ANSWER_S) -> None:
        # Imported here: 60 ms that a gateway without shared budgets need not spend.
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        self._failures = (RedisError, OSError, TimeoutError)
        self._now = now
        self._answer_s = answer_s
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=answer_s,
            socket_connect_timeout=answer_s,
            socket_timeout=answer_s,
            # Ours say what they wait for; a script that was cut off may have run.
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._redis: Redis = Redis.from_pool(pool)
        options = pool.connection_kwargs
        self.address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self._reserve = self._redis.register_script(RESERVE)
        self._settle = self._redis.register_script(SETTLE)
        self._counted = self._redis.register_script(COUNTED)
        self._settling: set[asyncio.Task[None]] = set()
        self._away = False
        self._stopping = False

    async def start(self) -> None:
        """Nothing: Redis need not be there yet."""

    async def stop(self) -> None:
        """Gives what is being settled a last moment, and closes the connections."""
        self._stopping = True
        if self._settling:
            await asyncio.wait(self._settling, timeout=self._answer_s)
        for task in self._settling:
            task.cancel()
        await self._redis.aclose()

    async def check(self) -> None:
        """Raises where Redis does not answer."""
        try:
            answer: Any = self._redis.ping()
            await answer
        except self._failures as error:
            raise self._unreachable(error) from error

    async def reserve(
        self, call_id: str, claims: Sequence[Claim], asked: Amounts, *, now: float, lease_s: float
    ) -> Shortage | None:
        """Sets aside; see BudgetStore."""
        arguments: list[Any] = [now, now + lease_s, call_id, *asked]
        for claim in claims:
            arguments += ["" if limit is None else limit for limit in claim.limits]
            arguments.append(int(claim.ends_at) + _KEPT_S)
        try:
            short = await self._reserve(keys=_keys(claims), args=arguments)
        except self._failures as error:
            # It may have come through all the same.
            self.settle(call_id, claims, asked, Amounts())
            raise self._unreachable(error) from error
        except asyncio.CancelledError:
            self.settle(call_id, claims, asked, Amounts())
            raise
        self._found()
        if not short:
            return None
        number, kind, spent, held = map(int, short)
        return Shortage(claims[number], kind, spent, held)

    def settle(self, call_id: str, claims: Sequence[Claim], asked: Amounts, used: Amounts) -> asyncio.Future[None]:
        """Counts what was used; see BudgetStore."""
        loop = asyncio.get_running_loop()
        tried: asyncio.Future[None] = loop.create_future()
        task = loop.create_task(self._settle_until_done(call_id, claims, asked, used, tried))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return tried

    async def counted(self, claim: Claim) -> tuple[Amounts, Amounts]:
        """What was spent and is set aside; see BudgetStore."""
        try:
            values = await self._counted(keys=_keys([claim]), args=[self._now()])
        except self._failures as error:
            raise self._unreachable(error) from error
        numbers = [int(value or 0) for value in values]
        return Amounts(*numbers[:3]), Amounts(*numbers[3:])

    async def _settle_until_done(
        self,
        call_id: str,
        claims: Sequence[Claim],
        asked: Amounts,
        used: Amounts,
        tried: asyncio.Future[None],
    ) -> None:
        keys = [f"{_PREFIX}settled:{call_id}", *_keys(claims)]
        arguments = [call_id, *asked, *used, _MARK_S, *(int(claim.ends_at) + _KEPT_S for claim in claims)]
        pause_s, gives_up = _FIRST_PAUSE_S, self._now() + _MARK_S / 2
        while not await self._settled(keys, arguments):
            _tell(tried)
            if self._stopping or self._now() > gives_up or len(self._settling) > _MOST_WAITING:
                log.error("a call is not counted in its budgets: %s tokens, %.6f USD", used.tokens, used.usd_nano / 1e9)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        _tell(tried)

    async def _settled(self, keys: list[str], arguments: list[Any]) -> bool:
        try:
            await self._settle(keys=keys, args=arguments)
        except self._failures as error:
            self._unreachable(error)
            return False
        self._found()
        return True

    def _unreachable(self, error: BaseException) -> BudgetStoreError:
        said = error or type(error).__name__
        if not self._away:
            log.error("Redis at %s cannot be asked about budgets: %s", self.address, said)
        self._away = True
        return BudgetStoreError(f"the budgets cannot be checked: Redis at {self.address} does not answer ({said})")

    def _found(self) -> None:
        if self._away:
            log.info("Redis at %s is back", self.address)
        self._away = False


def _tell(tried: asyncio.Future[None]) -> None:
    # Who waited may have left.
    if not tried.done():
        tried.set_result(None)


def _keys(claims: Sequence[Claim]) -> list[str]:
    return [key for claim in claims for key in (f"{_PREFIX}{claim.counter}", f"{_PREFIX}{claim.counter}|leases")]
