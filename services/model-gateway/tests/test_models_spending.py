"""The sections of `models.yaml` on budgets, prices and the cache: what they become, and how faults are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pagi_gateway.adapters.models_file import ModelsFileError, read_models
from pagi_gateway.domain.budgets import Budget, BudgetRules, Limits, Per, Window
from pagi_gateway.domain.caching_provider import CacheRules
from pagi_gateway.domain.model_price import ModelPrice, Rate
from pagi_gateway.domain.models_config import ModelsConfig


def read(tmp_path: Path, text: str) -> ModelsConfig:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return read_models(path, lambda _: "")


DOCS = Path(__file__).parents[3] / "docs" / "models.md"


def test_the_sections_of_the_documentation_are_read(tmp_path: Path) -> None:
    written = re.findall(r"```yaml\n((?:prices|budgets|cache):.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(written) == 3
    config = read(tmp_path, "".join(written))
    assert [budget.name for budget in config.budgets.budgets] == ["company", "tenant-day", "trial", "key-month", "run"]
    assert config.budgets == BudgetRules(config.budgets.budgets)
    assert config.cache == CacheRules(("judge", "fast-*"))
    assert set(config.prices) == {"house", "openai/gpt-4o-mini", "anthropic/*"}


WHOLE = """\
budgets:
  output_tokens: 4000
  unknown_price: allow
  without_store: allow
  rules:
    company: {window: month, usd: 500}
    tenant-day: {per: tenant, window: day, usd: 0.5, tokens: 2000000, requests: 5000, but_not: [acme]}
    trial: {per: tenant, window: minute, requests: 10, only: [trial-*]}
    run: {per: run, window: day, usd: 1.25}
prices:
  openai/gpt-4o-mini: {input_usd: 0.15, output_usd: 0.6, cached_input_usd: 0.075, cache_write_usd: 0.2}
  ollama/*: {input_usd: 0, output_usd: 0, request_usd: 0.001}
cache: {models: [fast, judge-*], ttl_seconds: 600, max_mb: 8, tool_calls: true, any_temperature: true}
"""


def test_what_the_sections_become(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    assert config.routes is None
    assert config.budgets == BudgetRules(
        (
            Budget("company", Window.MONTH, Limits(500 * 10**9)),
            Budget("tenant-day", Window.DAY, Limits(5 * 10**8, 2_000_000, 5000), Per.TENANT, but_not=("acme",)),
            Budget("trial", Window.MINUTE, Limits(None, None, 10), Per.TENANT, only=("trial-*",)),
            Budget("run", Window.DAY, Limits(1_250_000_000), Per.RUN),
        ),
        output_tokens=4000,
        allow_unknown_price=True,
        allow_without_store=True,
    )
    assert config.prices == {
        "openai/gpt-4o-mini": ModelPrice(Rate(0.15), Rate(0.6), Rate(0.075), Rate(0.2)),
        "ollama/*": ModelPrice(Rate(0.0), Rate(0.0), request_usd=0.001),
    }
    assert config.cache == CacheRules(("fast", "judge-*"), 600.0, 8 << 20, tool_calls=True, any_temperature=True)


def test_what_is_not_written_limits_nothing_refuses_what_is_unknown_and_caches_nothing(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert (config.budgets, config.cache, dict(config.prices)) == (BudgetRules(), CacheRules(), {})
    assert (config.budgets.allow_unknown_price, config.budgets.allow_without_store) == (False, False)
    assert config.cache.models == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budgets:\n  rules:\n    a: {window: day}", "line 3: budgets.rules.a: it limits nothing: give usd, tokens"),
        ("budgets:\n  rules:\n    a: {usd: 1}", "line 3: budgets.rules.a: window is missing"),
        ("budgets:\n  rules:\n    a:\n      usd: 1\n      window: week", "line 5: budgets.rules.a.window: "),
        ("budgets:\n  rules:\n    a: {usd: -1, window: day}", "line 3: budgets.rules.a.usd: "),
        ("budgets:\n  rules:\n    a: {requests: 1.5, window: day}", "line 3: budgets.rules.a.requests: "),
        ("budgets:\n  rules:\n    a: {usd: 1, window: day, only: [x]}", "only and but_not name tenants, keys or runs"),
        ("budgets:\n  rules:\n    a|b: {usd: 1, window: day}", "line 3: budgets.rules"),
        ("budgets: {rules: {a: {usd: 1, windw: day}}}", "there is no such member; there are per, window, usd"),
        ("budgets: {unknown_price: maybe}", "line 1: budgets.unknown_price: "),
        ("prices:\n  m: {input_usd: 1}", "line 2: prices.m: output_usd is missing"),
        ("prices:\n  m: {input_usd: .nan, output_usd: 1}", "line 2: prices.m.input_usd: "),
        ("cache:\n  ttl_seconds: 0", "line 2: cache.ttl_seconds: "),
        ("cache:\n  models: fast", "line 2: cache.models: "),
    ],
)
def test_a_fault_is_named_by_its_line_and_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ModelsFileError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)
