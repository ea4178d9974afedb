"""Tokens, time and cost by the conventions' names, and by tenant; labels are bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pagi_gateway.adapters.prometheus_figures import PrometheusFigures
from pagi_gateway.adapters.prometheus_usage import MOST_TENANT_LABELS, PrometheusUsage
from pagi_gateway.adapters.telemetry_provider import TelemetryProvider
from pagi_gateway.domain.budgets import Amounts
from pagi_gateway.domain.errors import ProviderDownError
from pagi_gateway.domain.model import Caller, Plan, Usage
from pagi_gateway.testing import RecordingProvider, asking
from prometheus_client import REGISTRY

CHAT = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "model-a"}
USAGE = Usage(100, 20, 0.25, reported=True)
ASKED = replace(asking("hello", model="model-a"), caller=Caller("tenant-of-usage"))


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_an_answer_is_counted_by_model_and_by_tenant() -> None:
    measured = TelemetryProvider(RecordingProvider([Plan("yes", usage=USAGE)], name="usage-1"))
    await measured.plan(ASKED, timeout_s=1)
    [event async for event in measured.stream(ASKED, timeout_s=1)]
    chat = {**CHAT, "gen_ai_provider_name": "usage-1"}
    for direction, tokens in (("input", 200), ("output", 40)):
        labels = {**chat, "gen_ai_token_type": direction}
        assert counted("gen_ai_client_token_usage_sum", **labels) == tokens
        assert counted("gen_ai_client_token_usage_count", **labels) == 2
        told = counted("pagi_gateway_tenant_tokens_total", tenant="tenant-of-usage", direction=direction)
        assert told == tokens
    assert counted("gen_ai_client_operation_duration_seconds_count", **chat) == 2
    assert counted("pagi_gateway_tenant_cost_usd_total", tenant="tenant-of-usage") == 0.5


async def test_a_failure_has_a_duration_and_no_tokens() -> None:
    measured = TelemetryProvider(RecordingProvider([ProviderDownError("gone")], name="usage-2"))
    with pytest.raises(ProviderDownError):
        await measured.plan(ASKED, timeout_s=1)
    chat = {**CHAT, "gen_ai_provider_name": "usage-2"}
    assert counted("gen_ai_client_operation_duration_seconds_count", **chat) == 1
    assert counted("gen_ai_client_token_usage_count", **chat, gen_ai_token_type="input") == 0


def test_tenants_do_not_make_labels_without_end() -> None:
    usage = PrometheusUsage()
    for number in range(MOST_TENANT_LABELS + 50):
        usage.answered("usage-3", "m", f"customer-{number}", USAGE)
    usage.answered("usage-3", "m", "customer-0", USAGE)
    assert counted("pagi_gateway_tenant_tokens_total", tenant="customer-0", direction="input") == 200
    assert counted("pagi_gateway_tenant_tokens_total", tenant="other", direction="input") == 5000
    assert len(usage._tenants) == MOST_TENANT_LABELS + 1


def test_what_budgets_spend_and_refuse_is_counted_by_their_names() -> None:
    figures = PrometheusFigures()
    figures.budget_spent("figures-1", Amounts(250_000_000, 70, 1))
    figures.budget_spent("figures-1", Amounts(250_000_000, 30, 1))
    figures.budget_refused("figures-1", "usd")
    assert counted("pagi_gateway_budget_spent_usd_total", budget="figures-1") == 0.5
    assert counted("pagi_gateway_budget_spent_tokens_total", budget="figures-1") == 100
    assert counted("pagi_gateway_budget_spent_requests_total", budget="figures-1") == 2
    assert counted("pagi_gateway_budget_refused_total", budget="figures-1", why="usd") == 1
