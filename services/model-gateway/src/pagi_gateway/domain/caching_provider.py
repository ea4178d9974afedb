"""Answers equal requests from memory, where the operator says so."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pagi_gateway.domain.deltas import deltas_of
from pagi_gateway.domain.effects import EffectName, fingerprint_of
from pagi_gateway.domain.model import FinishReason, Plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pagi_gateway.domain.model import Delta, ModelInfo, PlanRequest
    from pagi_gateway.domain.ports import AnswerCache, CacheFigures, Provider
    from pagi_gateway.domain.prices import PricedModel


@dataclass(frozen=True, slots=True)
class CacheRules:
    """What is answered from memory.

    Attributes:
        models: Patterns (`*` is any text) of the names that are asked for; empty for none.
        lifetime_s: How long an answer is kept, in seconds.
        most_bytes: What all answers may take together; the oldest go first.
        tool_calls: Whether answers that call tools are kept too.
        any_temperature: Whether requests count that do not ask for the same answer each time, by temperature 0 or a
            seed.
    """

    models: tuple[str, ...] = ()
    lifetime_s: float = 3600.0
    most_bytes: int = 64 << 20
    tool_calls: bool = False
    any_temperature: bool = False


class CachingProvider:
    """Answers as `inner` does, and equal requests of a tenant from memory: they cost nothing and ask nobody.

    Equal requests at the same time are all asked. What a name led to before says nothing of what it leads to now.

    Args:
        inner: Who answers.
        cache: What is remembered.
        reach: Which models may answer where one is asked by a name; raises where none does.
        figures: Is told of hits and misses.
    """

    def __init__(
        self,
        inner: Provider,
        cache: AnswerCache,
        reach: Callable[[str], Sequence[PricedModel]],
        figures: CacheFigures,
    ) -> None:
        self._inner = inner
        self._reach = reach
        self._cache = cache
        self._figures = figures
        self._rules = CacheRules()

    def use(self, rules: CacheRules) -> None:
        """From now on these rules count, also for what is kept already."""
        self._rules = rules

    @property
    def name(self) -> str:
        """The inner provider's name."""
        return self._inner.name

    @property
    def default_model(self) -> str:
        """The inner provider's default."""
        return self._inner.default_model

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers."""
        if not self._counts(request):
            return await self._inner.plan(request, timeout_s=timeout_s)
        name = self._name(request)
        known = await self._find(name)
        if known is not None:
            return known
        plan = await self._inner.plan(request, timeout_s=timeout_s)
        self._keep(name, plan)
        return plan

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas; what is remembered comes in few."""
        name = known = None
        if self._counts(request):
            name = self._name(request)
            known = await self._find(name)
        if known is not None:
            for delta in deltas_of(known):
                yield delta
            yield known
            return
        async with aclosing(self._inner.stream(request, timeout_s=timeout_s)) as events:
            async for event in events:
                if name is not None and isinstance(event, Plan):
                    self._keep(name, event)
                yield event

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The inner provider's models."""
        return await self._inner.models(timeout_s=timeout_s)

    def _counts(self, request: PlanRequest) -> bool:
        rules = self._rules
        if not rules.models or not any(fnmatchcase(request.model, pattern) for pattern in rules.models):
            return False
        return rules.any_temperature or request.temperature == 0 or request.seed is not None

    def _name(self, request: PlanRequest) -> EffectName:
        answering = sorted({model[:3] for model in self._reach(request.model)})
        return EffectName(request.caller.tenant, fingerprint_of(request, answering))

    async def _find(self, name: EffectName) -> Plan | None:
        known = await self._cache.find(name)
        # Rules may have become narrower since it was kept.
        if known is None or not self._may_be_kept(known.plan):
            self._figures.cache("miss")
            return None
        self._figures.cache("hit")
        return replace(known.plan, cached=True, attempts=(), usage=replace(known.plan.usage, cost_usd=0.0))

    def _keep(self, name: EffectName, plan: Plan) -> None:
        if self._may_be_kept(plan):
            self._cache.keep(name, name.effect_id, plan, lifetime_s=self._rules.lifetime_s)

    def _may_be_kept(self, plan: Plan) -> bool:
        if plan.tool_calls:
            return self._rules.tool_calls and plan.finish_reason in {FinishReason.TOOL_CALLS, FinishReason.STOP}
        # Neither what was cut off nor what was withheld.
        return plan.finish_reason is FinishReason.STOP
