"""What is remembered and counted around every call: the ledger, the cache, the budgets and the prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.genai_price_list import GenaiPriceList
from pagi_gateway.adapters.prometheus_figures import PrometheusFigures
from pagi_gateway.adapters.sqlite_answers import Bounds, SqliteAnswers
from pagi_gateway.adapters.sqlite_file import SqliteFile
from pagi_gateway.domain.budgeted_provider import BudgetedProvider
from pagi_gateway.domain.caching_provider import CacheRules, CachingProvider
from pagi_gateway.domain.models_config import ModelsConfig
from pagi_gateway.domain.once import OnceByEffect
from pagi_gateway.domain.prices import PricedModel, Prices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagi_chassis.component import Component

    from pagi_gateway.adapters.redis_spending import RedisSpending
    from pagi_gateway.adapters.sqlite_spending import SqliteSpending
    from pagi_gateway.domain.ports import Answerer, Provider
    from pagi_gateway.settings import GatewaySettings

_DB_VARIABLE = "MODEL_GATEWAY_DB_PATH"
_MOST_CACHED = 1_000_000


class Accounting:
    """A component that holds them, and wraps them around those who answer.

    From the outside in: `once` joins and replays by effect id, `counted` answers from the cache and keeps budgets.

    Attributes:
        prices: What models cost; targets say it of their answers.
        redis: Where budgets are counted, if that is not in the file.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._file = SqliteFile(settings.model_gateway_db_path, variable=_DB_VARIABLE)
        self._ledger = SqliteAnswers(self._file, "effects", _ledger_bounds(settings))
        self._cache = SqliteAnswers(self._file, "cache", _cache_bounds(CacheRules()))
        self._listed = GenaiPriceList(update=settings.model_prices_update)
        self.prices = Prices(self._listed, _elsewhere(settings))
        self._figures = PrometheusFigures()
        self.redis: RedisSpending | None = None
        self._spending = self._make_spending()
        self._config = ModelsConfig()
        # Whose prices are looked up at the start, so that no call waits for them.
        self._first: Callable[[], Sequence[PricedModel]] = list
        self._caching: CachingProvider | None = None
        self._budgeted: BudgetedProvider | None = None

    async def start(self) -> None:
        """Opens the file.

        Raises:
            StartError: It cannot be opened.
        """
        for component in self._components():
            await component.start()
        self.prices.want(self._first())

    async def stop(self) -> None:
        """Writes what is in line."""
        for component in reversed(self._components()):
            await component.stop()

    def use(self, config: ModelsConfig) -> None:
        """Puts in force what models.yaml says of budgets, cache and prices."""
        self._config = config
        self.prices.use(config.prices)
        self._cache.bound(_cache_bounds(config.cache))
        if self._caching is not None:
            self._caching.use(config.cache)
        if self._budgeted is not None:
            self._budgeted.use(config.budgets)

    def counted(self, provider: Provider, reach: Callable[[str], Sequence[PricedModel]]) -> Provider:
        """Who answers, within the budgets, and from the cache.

        Args:
            provider: Who answers otherwise.
            reach: Which models may answer where one is asked by a name.
        """
        self._first = lambda: reach(provider.default_model)
        self._budgeted = BudgetedProvider(provider, self._spending, self.prices, reach, self._figures)
        self._caching = CachingProvider(self._budgeted, self._cache, reach, self._figures)
        self.use(self._config)
        return self._caching

    def once(self, answerer: Answerer) -> Answerer:
        """Who answers each effect once."""
        return OnceByEffect(answerer, self._ledger, self._figures)

    def _make_spending(self) -> SqliteSpending | RedisSpending:
        # Each imported where it is chosen.
        if self._settings.model_budgets_store == "redis":
            from pagi_gateway.adapters.redis_spending import RedisSpending

            self.redis = RedisSpending(self._settings.redis_url)
            return self.redis
        from pagi_gateway.adapters.sqlite_spending import SqliteSpending

        return SqliteSpending(self._file)

    def _components(self) -> Sequence[Component]:
        return [self._file, self._ledger, self._cache, self._spending, self._listed]


def _ledger_bounds(settings: GatewaySettings) -> Bounds:
    return Bounds(
        settings.model_ledger_max_age_hours * 3600,
        settings.model_ledger_max_answers,
        settings.model_ledger_max_mb << 20,
    )


def _cache_bounds(rules: CacheRules) -> Bounds:
    return Bounds(rules.lifetime_s, _MOST_CACHED, rules.most_bytes)


def _elsewhere(settings: GatewaySettings) -> dict[str, str]:
    """The providers that the settings place somewhere else than at their own address."""
    fields = {
        name.removesuffix("_base_url"): name for name in type(settings).model_fields if name.endswith("_base_url")
    }
    return {
        provider: url
        for provider, name in fields.items()
        if (url := getattr(settings, name)) and url != type(settings).model_fields[name].default
    }
