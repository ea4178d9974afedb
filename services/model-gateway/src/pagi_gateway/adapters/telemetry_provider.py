"""Measures another provider: a GenAI span and metrics for each answer.

Names follow the OpenTelemetry semantic conventions for generative AI, with few attributes: each one costs.
"""

from __future__ import annotations

import time
from contextlib import aclosing, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN
from pagi_chassis import telemetry
from pagi_chassis.errors import PagiError
from prometheus_client import Counter, Histogram

from pagi_gateway.adapters.prometheus_usage import USAGE
from pagi_gateway.adapters.telemetry_contents import answer_attributes, input_messages, output_messages
from pagi_gateway.domain.model import Plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from opentelemetry.trace import Span

    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Delta, ModelInfo, PlanRequest
    from pagi_gateway.domain.ports import ModelSource

REQUESTS = Counter("pagi_gateway_requests", "Answers asked of a model", ["provider", "model", "outcome"])
TOKENS = Counter("pagi_gateway_tokens", "Tokens read and written", ["provider", "model", "direction"])
SECONDS = Histogram(
    "pagi_gateway_request_duration_seconds",
    "Time from the question to the whole answer",
    ["provider", "model"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
FIRST_TOKEN_SECONDS = Histogram(
    "pagi_gateway_time_to_first_token_seconds",
    "Time from the question to the first piece of a streamed answer",
    ["provider", "model"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
COST = Counter("pagi_gateway_cost_usd", "US dollars that answers cost, where the price is known", ["provider", "model"])
# A caller may write any model's name: only so many become labels, the rest count as "other".
MOST_MODEL_LABELS = 32


# A label set is looked up once: it costs more than the counting. Few are ever in use, see above.
@lru_cache(maxsize=1024)
def _counter(metric: Counter, *labels: str) -> Counter:
    return metric.labels(*labels)


@lru_cache(maxsize=1024)
def _histogram(metric: Histogram, *labels: str) -> Histogram:
    return metric.labels(*labels)


class _Call:
    """One answer in the making."""

    def __init__(self, span: Span, provider: str, tenant: str, *, contents: bool) -> None:
        self.outcome = "cancelled"
        self.contents = contents
        self.first_s: float | None = None
        self._started = time.perf_counter()
        self.plan: Plan | None = None
        self._span = span
        self._provider = provider
        self._tenant = tenant

    def since_s(self) -> float:
        return time.perf_counter() - self._started

    def began(self) -> None:
        """The first piece of the answer is there."""
        self.first_s = self.since_s()
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", self.first_s)

    def answered(self, plan: Plan, label: str) -> None:
        self.outcome = "ok"
        self.plan = plan
        _counter(TOKENS, self._provider, label, "input").inc(plan.usage.input_tokens)
        _counter(TOKENS, self._provider, label, "output").inc(plan.usage.output_tokens)
        USAGE.answered(self._provider, label, self._tenant, plan.usage)
        if plan.usage.cost_usd:
            _counter(COST, self._provider, label).inc(plan.usage.cost_usd)
        if self._span is INVALID_SPAN:
            return
        self._span.set_attributes(answer_attributes(plan))
        if self.contents:
            self._span.set_attribute("gen_ai.output.messages", output_messages(plan))

    def failed(self, error: BaseException) -> None:
        if isinstance(error, PagiError):
            self.outcome = type(error).__name__.removesuffix("Error")
        elif isinstance(error, Exception):
            self.outcome = "Internal"
        self._span.set_attribute("error.type", type(error).__name__)


class TelemetryProvider:
    """Answers as `inner` does, and measures it.

    Args:
        inner: Who answers.
        contents: Whether spans hold what was asked and answered.
        target: The name of the target that it is, for the spans; empty for none.
    """

    def __init__(self, inner: ModelSource, *, contents: bool = False, target: str = "") -> None:
        self._inner = inner
        self._contents = contents
        self._attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": inner.name}
        if target:
            self._attributes["pagi.target"] = target
        self._labels = {inner.default_model}

        self.name = inner.name

    @property
    def default_model(self) -> str:
        """The inner provider's default."""
        return self._inner.default_model

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers."""
        with self._call(request) as call:
            plan = await self._inner.plan(request, timeout_s=timeout_s)
            call.answered(plan, self._label(request.model, known=True))
        return plan

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas."""
        with self._call(request) as call:
            async with aclosing(self._inner.stream(request, timeout_s=timeout_s)) as events:
                async for event in events:
                    if isinstance(event, Plan):
                        call.answered(event, self._label(request.model, known=True))
                    elif call.first_s is None:
                        call.began()
                    yield event

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do."""
        return self._inner.capabilities(model)

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """Lists the inner provider's models; not measured, since no model works for it."""
        return await self._inner.models(timeout_s=timeout_s)

    @contextmanager
    def _call(self, request: PlanRequest) -> Iterator[_Call]:
        attributes = {**self._attributes, "gen_ai.request.model": request.model}
        with telemetry.span(f"chat {request.model}", "client", attributes) as span:
            call = _Call(span, self.name, request.caller.tenant, contents=self._contents and span is not INVALID_SPAN)
            if call.contents:
                span.set_attribute("gen_ai.input.messages", input_messages(request))
            try:
                yield call
            except BaseException as error:
                # A stream that is closed after its last event was answered, whatever its caller does then.
                if call.plan is None:
                    call.failed(error)
                raise
            finally:
                label = self._label(request.model, known=False)
                _counter(REQUESTS, self.name, label, call.outcome).inc()
                _histogram(SECONDS, self.name, label).observe(seconds := call.since_s())
                USAGE.ended(self.name, label, seconds)
                if call.first_s is not None:
                    _histogram(FIRST_TOKEN_SECONDS, self.name, label).observe(call.first_s)

    def _label(self, model: str, *, known: bool) -> str:
        """The model as a label; only a model that has answered may become a new one."""
        if known and len(self._labels) < MOST_MODEL_LABELS:
            self._labels.add(model)
        return model if model in self._labels else "other"
