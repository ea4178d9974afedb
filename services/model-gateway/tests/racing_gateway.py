"""One gateway of the race: 200 calls at once that answer, fail or are left, within one budget in Redis."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pagi_gateway.adapters.redis_spending import RedisSpending
from pagi_gateway.domain.budgeted_provider import BudgetedProvider
from pagi_gateway.domain.budgets import NANO, Budget, BudgetRules, Limits, Per, Window
from pagi_gateway.domain.errors import BudgetError, ProviderDownError
from pagi_gateway.domain.estimates import input_tokens_of
from pagi_gateway.domain.model import Caller, Plan, PlanRequest, Usage
from pagi_gateway.domain.prices import ModelPrice, PricedModel, Prices, Rate
from pagi_gateway.testing import FixedPrices, RecordingFigures, RecordingProvider, asking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CALLS = 200
USD = 2 * NANO
CALLER = Caller("acme", "", "run-7")
PRICE = ModelPrice(Rate(10.0), Rate(100.0))
MODEL = PricedModel("recording", "model-a")
ASKED = replace(asking("x" * 276, model="model-a"), caller=CALLER, max_output_tokens=200)


def rules(name: str) -> BudgetRules:
    """One budget of the tenant, a wider one of the run."""
    return BudgetRules(
        (
            Budget(f"{name}-day", Window.MONTH, Limits(USD), Per.TENANT),
            Budget(f"{name}-run", Window.MONTH, Limits(2 * USD, 10_000_000, 10_000), Per.RUN),
        )
    )


class Provider(RecordingProvider):
    """Takes some milliseconds; every seventh call fails, every eleventh hangs until its caller leaves."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        # By the price list: what was answered, and what was read by a provider that was left.
        self.usd_nano = 0

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        self.requests.append(request)
        number = len(self.requests)
        try:
            await asyncio.sleep(self.chance.random() / 50)
            if number % 11 == 0:
                await asyncio.sleep(timeout_s)
        except asyncio.CancelledError:
            self.usd_nano += input_tokens_of(ASKED) * 10_000
            raise
        if number % 7 == 0:
            raise ProviderDownError("gone")
        usage = Usage(self.chance.randrange(50, 101), self.chance.randrange(1, 201), reported=True)
        self.usd_nano += usage.input_tokens * 10_000 + usage.output_tokens * 100_000
        return Plan("ok", usage=usage)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Plan, None]:  # type: ignore[override]
        yield await self.plan(request, timeout_s=timeout_s)


async def race(url: str, name: str) -> dict[str, int]:
    """Makes the calls; tells how they ended, and what they cost."""
    provider, store = Provider(random.Random(name)), RedisSpending(url)
    prices = Prices(FixedPrices({MODEL: PRICE}))
    budgeted = BudgetedProvider(provider, store, prices, lambda _: [MODEL], RecordingFigures())
    budgeted.use(rules(name))
    ends = {"answered": 0, "refused": 0, "failed": 0, "left": 0}

    async def call(number: int) -> None:
        try:
            async with asyncio.timeout(0.5):
                if number % 2:
                    await budgeted.plan(ASKED, timeout_s=60)
                else:
                    async for _ in budgeted.stream(ASKED, timeout_s=60):
                        pass
            ends["answered"] += 1
        except BudgetError:
            ends["refused"] += 1
        except ProviderDownError:
            ends["failed"] += 1
        except TimeoutError:
            ends["left"] += 1

    await asyncio.gather(*map(call, range(CALLS)))
    # Those that left are settled in the background.
    while store._settling:
        await asyncio.sleep(0.001)
    await store.stop()
    return {**ends, "asked": len(provider.requests), "usd_nano": provider.usd_nano}


def main() -> None:
    """Waits for the word, then races."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    json.dump(asyncio.run(race(sys.argv[1], sys.argv[2])), sys.stdout)


if __name__ == "__main__":
    main()
