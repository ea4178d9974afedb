"""What answers cost: by the operator's own prices, by what a provider reports, by a maintained list, or not known."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pagi_gateway.domain.model_price import FREE, ModelPrice, PricedModel, Rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagi_gateway.domain.model import Usage
    from pagi_gateway.domain.ports import PriceList

__all__ = ["FREE", "ModelPrice", "PricedModel", "Prices", "Rate"]

# They cost nothing, or what they report themselves: a script says what its answers cost.
_OFFLINE = {"mock", "scripted"}


class Prices:
    """Looks prices up.

    Args:
        listed: The maintained list.
        elsewhere: Where providers are that are not at their own address, by name: other servers have other prices.
    """

    def __init__(self, listed: PriceList, elsewhere: Mapping[str, str] | None = None) -> None:
        self._listed = listed
        self._elsewhere = elsewhere or {}
        self._own: Mapping[str, ModelPrice] = {}
        self._found: dict[PricedModel, ModelPrice | None] = {}

    def use(self, own: Mapping[str, ModelPrice]) -> None:
        """Takes the operator's own prices, which come first: by target, `provider/model` or model; `*` is any text."""
        self._own = own
        self._found = {}

    def known(self, model: PricedModel) -> ModelPrice | None:
        """The price as far as it has been learned; None where there is none."""
        if model not in self._found:
            if len(self._found) >= 4096:
                # A caller may write any model's name.
                self._found.clear()
            self._found[model] = self._own_price(model)
        return self._found[model] or self._listed.known(self._placed(model))

    def want(self, models: Sequence[PricedModel]) -> None:
        """Begins to look up what is not known yet, so that `learn` need not wait long."""
        if wanted := [self._placed(model) for model in models if self.known(model) is None]:
            self._listed.want(wanted)

    async def learn(self, models: Sequence[PricedModel]) -> None:
        """Looks up what is not known yet, so that `known` tells it. Never fails: what is not found is not known."""
        wanted = [model for model in models if self.known(model) is None]
        if wanted:
            await self._listed.learn([self._placed(model) for model in wanted])

    def priced(self, usage: Usage, model: PricedModel) -> Usage:
        """The usage with its cost. What a provider reports itself stays, unless the operator says otherwise."""
        price = self.known(model)
        if price is None or price is FREE or not usage.reported:
            return usage
        if usage.cost_usd is not None and self._found[model] is None:
            return usage
        return replace(usage, cost_usd=price.cost_usd(usage))

    def _placed(self, model: PricedModel) -> PricedModel:
        if model.base_url or model.provider not in self._elsewhere:
            return model
        return model._replace(base_url=self._elsewhere[model.provider])

    def _own_price(self, model: PricedModel) -> ModelPrice | None:
        names = (model.target, f"{model.provider}/{model.model}", model.model)
        for name in names:
            if name and name in self._own:
                return self._own[name]
        for pattern, price in self._own.items():
            if "*" in pattern and any(fnmatchcase(name, pattern) for name in names if name):
                return price
        return FREE if model.provider in _OFFLINE else None
