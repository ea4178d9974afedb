"""Counts what the ledger, the cache and the budgets do.

Budgets have names from models.yaml; whom they are of is no label: there are as many as there are callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter

if TYPE_CHECKING:
    from pagi_gateway.domain.budgets import Amounts

EFFECTS = Counter("pagi_gateway_effects", "Calls with an effect id: asked, joined to another, or replayed", ["outcome"])
CACHE = Counter("pagi_gateway_cache", "Requests that may be answered from memory: hit or miss", ["outcome"])
SPENT_USD = Counter("pagi_gateway_budget_spent_usd", "US dollars counted in a budget", ["budget"])
SPENT_TOKENS = Counter("pagi_gateway_budget_spent_tokens", "Tokens counted in a budget", ["budget"])
SPENT_REQUESTS = Counter("pagi_gateway_budget_spent_requests", "Calls counted in a budget", ["budget"])
REFUSED = Counter("pagi_gateway_budget_refused", "Calls that a budget refused, and for want of what", ["budget", "why"])
STORE_FAILURES = Counter("pagi_gateway_budget_store_failures", "Times that the counters of budgets were not reached")


class PrometheusFigures:
    """EffectFigures, CacheFigures and BudgetFigures."""

    def __init__(self) -> None:
        # A label set is looked up once: it costs more than the counting.
        self._effects = {outcome: EFFECTS.labels(outcome) for outcome in ("asked", "joined", "replayed")}
        self._cache = {outcome: CACHE.labels(outcome) for outcome in ("hit", "miss")}
        self._spent: dict[str, tuple[Counter, Counter, Counter]] = {}

    def effect(self, outcome: str) -> None:
        """See EffectFigures."""
        self._effects[outcome].inc()

    def cache(self, outcome: str) -> None:
        """See CacheFigures."""
        self._cache[outcome].inc()

    def budget_spent(self, budget: str, used: Amounts) -> None:
        """See BudgetFigures."""
        if (counters := self._spent.get(budget)) is None:
            counters = SPENT_USD.labels(budget), SPENT_TOKENS.labels(budget), SPENT_REQUESTS.labels(budget)
            self._spent[budget] = counters
        usd, tokens, requests = counters
        usd.inc(used.usd_nano / 1e9)
        tokens.inc(used.tokens)
        requests.inc(used.requests)

    def budget_refused(self, budget: str, why: str) -> None:
        """See BudgetFigures."""
        REFUSED.labels(budget, why).inc()

    def budget_store_failed(self) -> None:
        """See BudgetFigures."""
        STORE_FAILURES.inc()
