"""Fakes of the gateway's ports, for its tests and for those who build on it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pagi_gateway.domain.capabilities import Capabilities
from pagi_gateway.domain.counting import Counter, set_aside, settle
from pagi_gateway.domain.effects import KnownAnswer
from pagi_gateway.domain.errors import BudgetStoreError, ModelNotFoundError, ProviderTimeoutError
from pagi_gateway.domain.model import Attempt, Circuit, Message, ModelInfo, Plan, PlanRequest, Role, TextDelta, ToolSpec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from pagi_gateway.domain.budgets import Amounts, Claim, Shortage
    from pagi_gateway.domain.effects import EffectName
    from pagi_gateway.domain.prices import ModelPrice, PricedModel


@dataclass
class RecordingProvider:
    """Answers with what it was given, and keeps what it was asked.

    Attributes:
        answers: Played in order, the last one again and again; an error is raised.
        pieces: Characters in one delta.
        gate: Where set, an answer waits for it, after the first delta of a stream.
        requests: What was asked.
        timeouts_s: How much time each request had.
        left_early: How many answers were cancelled or closed before their end.
    """

    answers: Sequence[Plan | Exception] = (Plan(text="all is well"),)
    name: str = "recording"
    default_model: str = "model-a"
    served: tuple[str, ...] = ("model-a", "model-b")
    pieces: int = 4
    gate: asyncio.Event | None = None
    requests: list[PlanRequest] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    left_early: int = 0

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers at once, or when the gate opens."""
        plan = self._next(request, timeout_s)
        try:
            await self._pass(timeout_s)
        except asyncio.CancelledError:
            self.left_early += 1
            raise
        return plan

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | Plan, None]:
        """Answers in pieces."""
        plan = self._next(request, timeout_s)
        whole = False
        try:
            for start in range(0, len(plan.text), self.pieces):
                yield TextDelta(plan.text[start : start + self.pieces])
                await self._pass(timeout_s)
            whole = True
            yield plan
        finally:
            self.left_early += not whole

    def capabilities(self, model: str) -> Capabilities:
        """Nothing is known of it."""
        return Capabilities()

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The served models."""
        return [ModelInfo(name, self.name, is_default=name == self.default_model) for name in self.served]

    def _next(self, request: PlanRequest, timeout_s: float) -> Plan:
        self.requests.append(request)
        self.timeouts_s.append(timeout_s)
        if request.model not in self.served:
            raise ModelNotFoundError(f"{self.name} has no model {request.model!r}")
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return replace(answer, model=request.model, provider=self.name)

    async def _pass(self, timeout_s: float) -> None:
        if self.gate is None:
            return
        try:
            await asyncio.wait_for(self.gate.wait(), timeout_s)
        except TimeoutError as error:
            raise ProviderTimeoutError("the gate did not open in time") from error


@dataclass
class InMemoryAnswerLedger:
    """Remembers everything until the process ends."""

    answers: dict[EffectName, KnownAnswer] = field(default_factory=dict)

    async def find(self, name: EffectName) -> KnownAnswer | None:
        """What was kept."""
        return self.answers.get(name)

    def keep(self, name: EffectName, fingerprint: str, plan: Plan, *, lifetime_s: float | None = None) -> None:
        """Keeps it, however long that is."""
        self.answers[name] = KnownAnswer(fingerprint, plan)


@dataclass
class RecordingFigures:
    """Counts what the gateway's parts tell."""

    effects: list[str] = field(default_factory=list)
    spent: list[tuple[str, Amounts]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    store_failures: int = 0
    cached: list[str] = field(default_factory=list)

    def cache(self, outcome: str) -> None:
        """Of a request that may be answered from memory."""
        self.cached.append(outcome)

    def effect(self, outcome: str) -> None:
        """Of a call with an effect id."""
        self.effects.append(outcome)

    def budget_spent(self, budget: str, used: Amounts) -> None:
        """By one call."""
        self.spent.append((budget, used))

    def budget_refused(self, budget: str, why: str) -> None:
        """One call."""
        self.refused.append((budget, why))

    def budget_store_failed(self) -> None:
        """Once."""
        self.store_failures += 1


@dataclass
class InMemorySpending:
    """Counts until the process ends.

    Attributes:
        now: The time, in seconds since 1970.
        failing: Whether the counters cannot be reached.
    """

    now: Callable[[], float] = time.time
    failing: bool = False
    counters: defaultdict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))

    async def reserve(
        self, call_id: str, claims: Sequence[Claim], asked: Amounts, *, now: float, lease_s: float
    ) -> Shortage | None:
        """Sets aside."""
        if self.failing:
            raise BudgetStoreError("the counters are away")
        return set_aside(self.counters, call_id, claims, asked, now=now, lease_s=lease_s)

    def settle(self, call_id: str, claims: Sequence[Claim], asked: Amounts, used: Amounts) -> None:
        """Counts."""
        settle(self.counters, call_id, claims, used)

    async def counted(self, claim: Claim) -> tuple[Amounts, Amounts]:
        """What was spent and is set aside."""
        counter = self.counters[claim.counter]
        counter.release_dead(self.now())
        return counter.spent, counter.held


@dataclass
class FixedPrices:
    """A list of prices that knows what it was given.

    Attributes:
        prices: What it knows.
        learned: The models of each look-up.
    """

    prices: Mapping[PricedModel, ModelPrice] = field(default_factory=dict)
    learned: list[list[str]] = field(default_factory=list)

    def known(self, model: PricedModel) -> ModelPrice | None:
        """What it was given."""
        return self.prices.get(model)

    def want(self, models: Sequence[PricedModel]) -> None:
        """Finds nothing new."""

    async def learn(self, models: Sequence[PricedModel]) -> None:
        """Finds nothing new."""
        self.learned.append([each.model for each in models])


@dataclass
class ManualClock:
    """Time that passes when somebody waits, or when a test says so.

    Attributes:
        time: Seconds.
        slept: Every wait that was asked for.
    """

    time: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        """The time."""
        return self.time

    def wall(self) -> float:
        """The same, as if it began in 1970."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Lets the time pass at once, and others have their turn."""
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)

    async def wait(self, signal: asyncio.Future[None], seconds: float) -> None:
        """Gives others a turn; the time passes where the signal did not come in it."""
        await asyncio.sleep(0)
        if not signal.done():
            await self.sleep(seconds)


@dataclass
class RecordingWatch:
    """Keeps what routing tells.

    Attributes:
        attempts: With what was asked for, and whether another followed.
        circuits: Each time that a breaker may have changed: target and circuit.
        ejections: Alias and target.
        gone: Targets of which nothing holds any more.
    """

    attempts: list[tuple[str, Attempt, bool]] = field(default_factory=list)
    circuits: list[tuple[str, Circuit]] = field(default_factory=list)
    ejections: list[tuple[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def attempted(self, asked: str, attempt: Attempt, *, next_one: bool) -> None:
        """See `RoutingWatch`."""
        self.attempts.append((asked, attempt, next_one))

    def circuit(self, target: str, circuit: Circuit) -> None:
        """See `RoutingWatch`."""
        self.circuits.append((target, circuit))

    def ejected(self, alias: str, target: str) -> None:
        """See `RoutingWatch`."""
        self.ejections.append((alias, target))

    def forgotten(self, target: str) -> None:
        """See `RoutingWatch`."""
        self.gone.append(target)


def asking(
    text: str,
    *,
    tools: Sequence[str] = (),
    system: str = "",
    earlier: Sequence[str] = (),
    then: Sequence[Message] = (),
    model: str = "mock",
) -> PlanRequest:
    """A request as a planner makes it.

    Args:
        text: The last user message.
        tools: Names of the tools that may be called.
        system: The system message.
        earlier: User messages of earlier turns; each was answered "ok".
        then: What follows the last user message: calls and results.
        model: The model asked.
    """
    history = [message for said in earlier for message in (Message(Role.USER, said), Message(Role.ASSISTANT, "ok"))]
    start = [Message(Role.SYSTEM, system)] if system else []
    return PlanRequest(
        messages=(*start, *history, Message(Role.USER, text), *then),
        tools=tuple(ToolSpec(name, f"does {name}", '{"type": "object"}') for name in tools),
        model=model,
    )
