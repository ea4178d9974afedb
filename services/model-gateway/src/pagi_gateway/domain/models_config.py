"""What `models.yaml` says, as a whole: each part belongs to the one who reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagi_gateway.domain.budgets import BudgetRules
from pagi_gateway.domain.caching_provider import CacheRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagi_gateway.domain.prices import ModelPrice
    from pagi_gateway.domain.routes import Routes


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """One reading of the file.

    Attributes:
        routes: Who is asked; None where the environment says so.
        budgets: What may be spent.
        cache: What is answered from memory.
        prices: What models cost, where the operator says it; see `Prices.use`.
    """

    routes: Routes | None = None
    budgets: BudgetRules = field(default_factory=BudgetRules)
    cache: CacheRules = field(default_factory=CacheRules)
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)
