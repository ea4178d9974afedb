"""What the gateway needs from the world: somebody who answers a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Sequence

    from pagi_gateway.domain.budgets import Amounts, Claim, Shortage
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.effects import EffectName, KnownAnswer
    from pagi_gateway.domain.model import Attempt, Circuit, Delta, ModelInfo, Plan, PlanRequest
    from pagi_gateway.domain.model_price import ModelPrice, PricedModel


class Answerer(Protocol):
    """Answers conversations.

    Every method raises the errors of `pagi_gateway.domain.errors` and, where time runs out,
    `pagi_chassis.errors.DeadlineExceededError`. Cancelling the caller's task stops the work upstream.
    """

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers the conversation."""

    def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas and ends with the whole plan, text included.

        Closing the generator stops the work upstream.
        """

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """Lists the models that can be asked."""


class Provider(Answerer, Protocol):
    """A source of answers. Routing, budgets and caches are providers that hold other providers.

    `request.model` is never empty here.
    """

    @property
    def name(self) -> str:
        """The provider's name, as `LLM_PROVIDER` spells it."""

    @property
    def default_model(self) -> str:
        """The model that is asked where a request names none."""


class ModelSource(Provider, Protocol):
    """A provider that answers itself, and so knows what its models can do."""

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do; never asks the provider."""


class AnswerLedger(Protocol):
    """Remembers answers for a time. It never fails: what cannot be read is not known."""

    async def find(self, name: EffectName) -> KnownAnswer | None:
        """What was kept, unless it has become too old or had to go."""

    def keep(self, name: EffectName, fingerprint: str, plan: Plan) -> None:
        """Keeps an answer: for `find` at once, durably a moment later."""


class PriceList(Protocol):
    """A list of prices that somebody maintains."""

    def known(self, model: PricedModel) -> ModelPrice | None:
        """The price, if `learn` has found one."""

    def want(self, models: Sequence[PricedModel]) -> None:
        """Begins to look the models up, for `learn`."""

    async def learn(self, models: Sequence[PricedModel]) -> None:
        """Looks the models up; never fails. What is looked up once is not looked up again for a time."""


class EffectFigures(Protocol):
    """Counts what became of calls with an effect id."""

    def effect(self, outcome: str) -> None:
        """`asked`, `joined` or `replayed`."""


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds since some moment; they only go up."""

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""

    async def wait(self, signal: asyncio.Future[None], seconds: float) -> None:
        """Waits for the signal, and no longer than that."""


class RoutingWatch(Protocol):
    """Is told what routing does."""

    def attempted(self, asked: str, attempt: Attempt, *, next_one: bool) -> None:
        """A call of a target ended; `next_one` is whether another is made for the request, which asked for `asked`."""

    def circuit(self, target: str, circuit: Circuit) -> None:
        """The breaker of a target may have changed."""

    def ejected(self, alias: str, target: str) -> None:
        """A target is left alone for a while, because the others of its alias do better."""

    def forgotten(self, target: str) -> None:
        """What was told of a target holds no more: nobody leads to it, or it begins anew."""


class BudgetStore(Protocol):
    """Counts what budgets limit."""

    async def reserve(
        self, call_id: str, claims: Sequence[Claim], asked: Amounts, *, now: float, lease_s: float
    ) -> Shortage | None:
        """Sets aside in every counter, or in none and says what is missing first: in one atomic step.

        What is not settled after `lease_s` seconds is released.

        Raises:
            BudgetStoreError: The counters cannot be reached; what was set aside nevertheless is released.
        """

    def settle(
        self, call_id: str, claims: Sequence[Claim], asked: Amounts, used: Amounts
    ) -> asyncio.Future[None] | None:
        """Counts what a call used in place of what it set aside: in one atomic step, once.

        Never fails: while the counters cannot be reached it is tried again. Returns what is done when it is counted,
        or when that takes long; None where it is counted already.
        """

    async def counted(self, claim: Claim) -> tuple[Amounts, Amounts]:
        """What was spent, and what is set aside.

        Raises:
            BudgetStoreError: The counters cannot be reached.
        """


class BudgetFigures(Protocol):
    """Counts what budgets do."""

    def budget_spent(self, budget: str, used: Amounts) -> None:
        """A call was settled."""

    def budget_refused(self, budget: str, why: str) -> None:
        """A call was refused, for want of `usd`, `tokens` or `requests`, or for an `unknown_price`."""

    def budget_store_failed(self) -> None:
        """The counters could not be reached."""


class AnswerCache(Protocol):
    """Remembers answers to equal requests; fails as little as an AnswerLedger."""

    async def find(self, name: EffectName) -> KnownAnswer | None:
        """What was kept, unless it has become too old or had to go."""

    def keep(self, name: EffectName, fingerprint: str, plan: Plan, *, lifetime_s: float) -> None:
        """Keeps an answer for so many seconds."""


class CacheFigures(Protocol):
    """Counts what the cache does."""

    def cache(self, outcome: str) -> None:
        """`hit` or `miss`."""
