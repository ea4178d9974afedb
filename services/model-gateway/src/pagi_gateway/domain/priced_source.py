"""A source whose answers say what they cost."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from pagi_gateway.domain.model import Plan
from pagi_gateway.domain.prices import PricedModel, Prices

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Delta, ModelInfo, PlanRequest
    from pagi_gateway.domain.ports import ModelSource


class PricedSource:
    """Answers as `inner` does.

    The price is that of the name under which the model was asked, which is how it is billed.

    Args:
        inner: Who answers.
        prices: What it costs.
        base_url: Where it is, if that is not the provider's own address.
        target: Its name in `models.yaml`, or empty.
    """

    def __init__(self, inner: ModelSource, prices: Prices, *, base_url: str = "", target: str = "") -> None:
        self._inner = inner
        self._prices = prices
        self._base_url = base_url
        self._target = target

    @property
    def name(self) -> str:
        """The inner source's name."""
        return self._inner.name

    @property
    def default_model(self) -> str:
        """The inner source's default."""
        return self._inner.default_model

    def capabilities(self, model: str) -> Capabilities:
        """What the inner source knows of the model."""
        return self._inner.capabilities(model)

    def priced(self, model: str) -> PricedModel:
        """What names the price of a model here."""
        return PricedModel(self._inner.name, model, self._base_url, self._target)

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers."""
        self._prices.want([self.priced(request.model)])
        plan = await self._inner.plan(request, timeout_s=timeout_s)
        return await self._with_cost(plan, request)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas."""
        self._prices.want([self.priced(request.model)])
        async with aclosing(self._inner.stream(request, timeout_s=timeout_s)) as events:
            async for event in events:
                yield await self._with_cost(event, request) if isinstance(event, Plan) else event

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The inner source's models, with their prices."""
        infos = await self._inner.models(timeout_s=timeout_s)
        await self._prices.learn([self.priced(info.name) for info in infos])
        return [self._listed(info) for info in infos]

    def _listed(self, info: ModelInfo) -> ModelInfo:
        price = self._prices.known(self.priced(info.name))
        return info if price is None else replace(info, price=price.listed())

    async def _with_cost(self, plan: Plan, request: PlanRequest) -> Plan:
        model = self.priced(request.model)
        if self._prices.known(model) is None:
            await self._prices.learn([model])
        usage = self._prices.priced(plan.usage, model)
        return plan if usage is plan.usage else replace(plan, usage=usage)
