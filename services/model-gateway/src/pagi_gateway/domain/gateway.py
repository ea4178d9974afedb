"""One door to every provider: checks a request, fills in the model and the time, and asks."""

from __future__ import annotations

import math
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from pagi_gateway.domain.model import Plan
from pagi_gateway.domain.validation import check_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pagi_gateway.domain.model import Delta, ModelInfo, PlanRequest
    from pagi_gateway.domain.ports import Provider


class Gateway:
    """Asks the provider, within the caller's time and never longer than `longest_s`.

    Args:
        provider: Who answers; a router or a budget is a provider too.
        longest_s: The longest that one answer may take, in seconds.
        clock: Seconds that only go up, for the latency.
    """

    def __init__(self, provider: Provider, *, longest_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._provider = provider
        self._longest_s = longest_s
        self._clock = clock

    async def plan(self, request: PlanRequest, *, timeout_s: float = math.inf) -> Plan:
        """Returns the whole answer.

        Raises:
            InvalidPlanRequestError: The request can be asked of nobody.
            PagiError: Whatever the provider met; see `pagi_gateway.domain.errors`.
        """
        asked = self._ready(request)
        started = self._clock()
        plan = await self._provider.plan(asked, timeout_s=self._time(timeout_s))
        return self._timed(plan, started)

    async def stream(self, request: PlanRequest, *, timeout_s: float = math.inf) -> AsyncGenerator[Delta | Plan, None]:
        """Yields the answer in deltas and at last the whole plan; raises as `plan` does."""
        asked = self._ready(request)
        started = self._clock()
        async with aclosing(self._provider.stream(asked, timeout_s=self._time(timeout_s))) as events:
            first_ms = 0.0
            async for event in events:
                if isinstance(event, Plan):
                    yield replace(self._timed(event, started), first_token_ms=first_ms)
                else:
                    first_ms = first_ms or (self._clock() - started) * 1000
                    yield event

    async def models(self, *, timeout_s: float = math.inf) -> Sequence[ModelInfo]:
        """Lists who can be asked."""
        return await self._provider.models(timeout_s=self._time(timeout_s))

    def _ready(self, request: PlanRequest) -> PlanRequest:
        check_request(request)
        return request if request.model else replace(request, model=self._provider.default_model)

    def _time(self, timeout_s: float) -> float:
        return max(0.0, min(timeout_s, self._longest_s))

    def _timed(self, plan: Plan, started: float) -> Plan:
        return replace(plan, latency_ms=(self._clock() - started) * 1000)
