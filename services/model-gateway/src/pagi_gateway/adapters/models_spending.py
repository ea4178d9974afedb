"""The sections of `models.yaml` that say what may be spent, what models cost and what is answered from memory."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pagi_gateway.adapters.models_sections import Name, Section
from pagi_gateway.domain.budgets import NANO, Budget, BudgetRules, Limits, Per, Window
from pagi_gateway.domain.caching_provider import CacheRules
from pagi_gateway.domain.prices import ModelPrice, Rate

# It is a part of a counter's name.
BudgetName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Dollars = Annotated[float, Field(ge=0, le=1_000_000)]
Whole = Annotated[int, Field(ge=0, le=10**12)]


class PriceSection(Section):
    """One of `prices`: US dollars for a million tokens; `request_usd` for each call."""

    input_usd: Dollars
    output_usd: Dollars
    cached_input_usd: Dollars | None = None
    cache_write_usd: Dollars | None = None
    request_usd: Dollars = 0

    def made(self) -> ModelPrice:
        """What it becomes."""
        return ModelPrice(
            Rate(self.input_usd),
            Rate(self.output_usd),
            None if self.cached_input_usd is None else Rate(self.cached_input_usd),
            None if self.cache_write_usd is None else Rate(self.cache_write_usd),
            self.request_usd,
        )


class BudgetSection(Section):
    """One of `budgets.rules`."""

    per: Literal["all", "tenant", "key", "run"] = "all"
    window: Literal["minute", "day", "month"]
    usd: Dollars | None = None
    tokens: Whole | None = None
    requests: Whole | None = None
    only: list[str] = Field(default_factory=list)
    but_not: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.usd is None and self.tokens is None and self.requests is None:
            raise ValueError("it limits nothing: give usd, tokens or requests")
        if self.per == "all" and (self.only or self.but_not):
            raise ValueError("only and but_not name tenants, keys or runs: say per whom it is")
        return self

    def made(self, name: str) -> Budget:
        """What it becomes."""
        usd_nano = None if self.usd is None else round(self.usd * NANO)
        limits = Limits(usd_nano, self.tokens, self.requests)
        return Budget(name, Window(self.window), limits, Per(self.per), tuple(self.only), tuple(self.but_not))


class BudgetsSection(Section):
    """`budgets`."""

    rules: dict[BudgetName, BudgetSection] = Field(default_factory=dict)
    output_tokens: int = Field(default=8192, ge=1, le=1_000_000)
    unknown_price: Literal["refuse", "allow"] = "refuse"
    without_store: Literal["refuse", "allow"] = "refuse"

    def made(self) -> BudgetRules:
        """What it becomes."""
        return BudgetRules(
            tuple(section.made(name) for name, section in self.rules.items()),
            self.output_tokens,
            self.unknown_price == "allow",
            self.without_store == "allow",
        )


class CacheSection(Section):
    """`cache`."""

    models: list[Name] = Field(default_factory=list)
    ttl_seconds: float = Field(default=3600, gt=0, le=31_536_000)
    max_mb: int = Field(default=64, ge=1, le=1_048_576)
    tool_calls: bool = False
    any_temperature: bool = False

    def made(self) -> CacheRules:
        """What it becomes."""
        most_bytes = self.max_mb << 20
        return CacheRules(tuple(self.models), self.ttl_seconds, most_bytes, self.tool_calls, self.any_temperature)
