"""Tokens, time and cost of answers, as metrics: by model after the OpenTelemetry conventions, and by tenant.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ names the first two and their buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from pagi_gateway.domain.model import Usage

_GEN_AI = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]
TOKEN_USAGE = Histogram(
    "gen_ai_client_token_usage",
    "Tokens that one answer read or wrote",
    [*_GEN_AI, "gen_ai_token_type"],
    buckets=tuple(4**power for power in range(14)),
)
DURATION = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "Time from the question to the whole answer, or to the failure",
    _GEN_AI,
    buckets=tuple(0.01 * 2**power for power in range(14)),
)
TENANT_TOKENS = Counter("pagi_gateway_tenant_tokens", "Tokens read and written for a tenant", ["tenant", "direction"])
TENANT_COST = Counter(
    "pagi_gateway_tenant_cost_usd", "US dollars that a tenant's answers cost, where the price is known", ["tenant"]
)
# There are as many as there are customers: so many become labels, the first that ask; the rest count as "other".
MOST_TENANT_LABELS = 100


class _Model(NamedTuple):
    input: Histogram
    output: Histogram
    seconds: Histogram


class _Tenant(NamedTuple):
    input: Counter
    output: Counter
    cost: Counter


class PrometheusUsage:
    """Counts answers. A label set is looked up once: it costs more than the counting."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], _Model] = {}
        self._tenants: dict[str, _Tenant] = {}

    def answered(self, provider: str, label: str, tenant: str, usage: Usage) -> None:
        """An answer came; `label` is the model as a label. What a provider does not report is not counted."""
        if not usage.reported:
            return
        model, payer = self._model(provider, label), self._tenant(tenant)
        model.input.observe(usage.input_tokens)
        model.output.observe(usage.output_tokens)
        payer.input.inc(usage.input_tokens)
        payer.output.inc(usage.output_tokens)
        if usage.cost_usd:
            payer.cost.inc(usage.cost_usd)

    def ended(self, provider: str, label: str, seconds: float) -> None:
        """A call ended, in whichever way."""
        self._model(provider, label).seconds.observe(seconds)

    def _model(self, provider: str, label: str) -> _Model:
        if (known := self._models.get((provider, label))) is None:
            names = ("chat", provider, label)
            read, written = TOKEN_USAGE.labels(*names, "input"), TOKEN_USAGE.labels(*names, "output")
            self._models[provider, label] = known = _Model(read, written, DURATION.labels(*names))
        return known

    def _tenant(self, tenant: str) -> _Tenant:
        if (known := self._tenants.get(tenant)) is not None:
            return known
        label = tenant if len(self._tenants) < MOST_TENANT_LABELS else "other"
        if (known := self._tenants.get(label)) is None:
            read, written = TENANT_TOKENS.labels(label, "input"), TENANT_TOKENS.labels(label, "output")
            self._tenants[label] = known = _Tenant(read, written, TENANT_COST.labels(label))
        return known


# The metrics are the process's, and so are the labels that are taken.
USAGE = PrometheusUsage()
