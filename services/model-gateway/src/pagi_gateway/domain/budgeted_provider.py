"""Keeps every call within the budgets that count it: sets aside before, settles after."""

from __future__ import annotations

import itertools
import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagi_gateway.domain.budgets import KINDS, BudgetRules, Claims
from pagi_gateway.domain.errors import BudgetStoreError, CostLimitError, UnknownPriceError
from pagi_gateway.domain.estimates import input_tokens_of, tokens_of
from pagi_gateway.domain.model import Note, NoteKind, Plan, ReasoningDelta, TextDelta
from pagi_gateway.domain.quotes import Quote
from pagi_gateway.domain.refusals import refused, too_small

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pagi_gateway.domain.budgets import Amounts, Claim
    from pagi_gateway.domain.model import Delta, ModelInfo, PlanRequest
    from pagi_gateway.domain.ports import BudgetFigures, BudgetStore, Provider
    from pagi_gateway.domain.prices import ModelPrice, PricedModel, Prices

# A call that has not settled so long after its time was over is dead.
_LEASE_MARGIN_S = 30.0


class BudgetedProvider:
    """Answers as `inner` does, where the budgets allow it.

    A call that no budget counts and that has no limit of its own goes straight through.

    Args:
        inner: Who answers.
        store: Where it is counted.
        prices: What models cost.
        reach: Which models may answer where one is asked by a name.
        figures: Is told what is spent and refused.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        inner: Provider,
        store: BudgetStore,
        prices: Prices,
        reach: Callable[[str], Sequence[PricedModel]],
        figures: BudgetFigures,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._store = store
        self._prices = prices
        self._reach = reach
        self._figures = figures
        self._now = now
        self._claims = Claims(BudgetRules())
        # Told apart from those of other gateways at the same counters.
        self._me = secrets.token_hex(8)
        self._numbers = itertools.count()

    def use(self, rules: BudgetRules) -> None:
        """From now on these budgets count. What is spent stays with a budget's name."""
        self._claims = Claims(rules)

    @property
    def name(self) -> str:
        """The inner provider's name."""
        return self._inner.name

    @property
    def default_model(self) -> str:
        """The inner provider's default."""
        return self._inner.default_model

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers.

        Raises:
            BudgetError: A budget has not enough left; says which, and when it has again.
            BudgetTooSmallError: The call may take more than the whole budget.
            CostLimitError: The call's own limit does not pay for its input.
            UnknownPriceError: Money is limited, and nobody knows what the model costs.
            BudgetStoreError: The counters cannot be reached.
        """
        call = await self._enter(request, timeout_s)
        if call is None:
            return await self._inner.plan(request, timeout_s=timeout_s)
        try:
            plan = await self._inner.plan(call.request, timeout_s=timeout_s)
        except BaseException as error:
            self._settle(call, call.quote.used_by_failure(error, 0))
            raise
        if (settling := self._settle(call, call.quote.used_by_answer(plan))) is not None:
            await settling
        return call.noted(plan)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas; raises as `plan` does."""
        call = await self._enter(request, timeout_s)
        if call is None:
            async with aclosing(self._inner.stream(request, timeout_s=timeout_s)) as events:
                async for event in events:
                    yield event
            return
        streamed, answered = 0, False
        try:
            async with aclosing(self._inner.stream(call.request, timeout_s=timeout_s)) as events:
                async for event in events:
                    if not isinstance(event, Plan):
                        streamed += _written(event)
                        yield event
                        continue
                    # First: whoever hears the answer may leave.
                    answered = True
                    if (settling := self._settle(call, call.quote.used_by_answer(event))) is not None:
                        await settling
                    yield call.noted(event)
        except BaseException as error:
            if not answered:
                self._settle(call, call.quote.used_by_failure(error, streamed))
            raise

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The inner provider's models."""
        return await self._inner.models(timeout_s=timeout_s)

    async def _enter(self, request: PlanRequest, timeout_s: float) -> _Call | None:
        """Sets aside what the call may use; None where nothing counts it."""
        now = self._now()
        claims = self._claims.of(request.caller, now)
        if not claims and not request.max_cost_usd:
            return None
        quote, note = await self._quote(request, claims)
        asked = quote.most()
        call = _Call(f"{self._me}-{next(self._numbers)}", request, claims, quote, asked, note)
        if quote.output_tokens not in {0, request.max_output_tokens}:
            call.request = replace(request, max_output_tokens=quote.output_tokens)
        for claim in claims:
            if (kind := _beyond(claim, asked)) is not None:
                raise self._refused(claim, kind, too_small(claim, kind, asked))
        if claims:
            await self._set_aside(call, now, timeout_s)
        return call

    async def _set_aside(self, call: _Call, now: float, timeout_s: float) -> None:
        try:
            shortage = await self._store.reserve(
                call.id, call.claims, call.asked, now=now, lease_s=timeout_s + _LEASE_MARGIN_S
            )
        except BudgetStoreError:
            self._figures.budget_store_failed()
            if not self._claims.rules.allow_without_store:
                raise
            call.claims = ()
            return
        if shortage is not None:
            told = refused(shortage, call.asked, now)
            raise self._refused(shortage.claim, shortage.kind, told)

    async def _quote(self, request: PlanRequest, claims: Sequence[Claim]) -> tuple[Quote, Note | None]:
        limits = [claim.limits for claim in claims]
        money = request.max_cost_usd > 0 or any(limit.usd_nano is not None for limit in limits)
        if not money and all(limit.tokens is None for limit in limits):
            return Quote(0, 0), None
        prices = await self._known_prices(request, claims) if money else []
        quote = Quote(input_tokens_of(request), request.max_output_tokens or self._claims.rules.output_tokens, prices)
        return _within_cost(quote, request) if request.max_cost_usd else (quote, None)

    async def _known_prices(self, request: PlanRequest, claims: Sequence[Claim]) -> list[ModelPrice]:
        models = self._reach(request.model)
        prices = [self._prices.known(model) for model in models]
        if None in prices:
            await self._prices.learn(models)
            prices = [self._prices.known(model) for model in models]
        unknown = [model for model, price in zip(models, prices, strict=True) if price is None]
        if unknown and not self._claims.rules.allow_unknown_price:
            budget = next(
                (claim.budget for claim in claims if claim.limits.usd_nano is not None), "limits.max_cost_usd"
            )
            self._figures.budget_refused(budget, "unknown_price")
            raise UnknownPriceError(
                f"the price of {unknown[0].model} at {unknown[0].provider} is not known, and the budget {budget} limits"
                " money: give the price under `prices` in models.yaml, or set budgets.unknown_price to allow"
            )
        return [price for price in prices if price is not None]

    def _refused(self, claim: Claim, kind: int, error: Exception) -> Exception:
        self._figures.budget_refused(claim.budget, KINDS[kind])
        return error

    def _settle(self, call: _Call, used: Amounts) -> asyncio.Future[None] | None:
        if not call.claims:
            return None
        for claim in call.claims:
            self._figures.budget_spent(claim.budget, used)
        return self._store.settle(call.id, call.claims, call.asked, used)


@dataclass(slots=True)
class _Call:
    """One call that is counted."""

    id: str
    request: PlanRequest
    claims: Sequence[Claim]
    quote: Quote
    asked: Amounts
    note: Note | None

    def noted(self, plan: Plan) -> Plan:
        return plan if self.note is None else replace(plan, notes=(*plan.notes, self.note))


def _within_cost(quote: Quote, request: PlanRequest) -> tuple[Quote, Note | None]:
    """As much output as the call's own limit pays for."""
    usd = request.max_cost_usd
    affordable = [price.affordable_output(quote.input_tokens, usd) for price in quote.prices]
    tokens = min((each for each in affordable if each is not None), default=quote.output_tokens)
    if tokens >= quote.output_tokens:
        return quote, None
    if tokens < 1:
        raise CostLimitError(
            f"limits.max_cost_usd is {usd:g}, and the input of about {quote.input_tokens} tokens alone may cost more"
        )
    note = Note(
        NoteKind.LIMITED, "limits.max_cost_usd", f"{usd:g} US dollars pay for at most {tokens} tokens of answer"
    )
    return replace(quote, output_tokens=tokens), note


def _beyond(claim: Claim, asked: Amounts) -> int | None:
    """Which limit is less than one call may take."""
    for kind, limit in enumerate(claim.limits):
        if limit is not None and asked[kind] > limit:
            return kind
    return None


def _written(delta: Delta) -> int:
    return tokens_of(delta.text if isinstance(delta, TextDelta | ReasoningDelta) else delta.arguments_json)
