"""Budgets: whose they are, when they end, what is set aside for a call, what is counted after it, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from pagi_gateway.domain.budgeted_provider import BudgetedProvider
from pagi_gateway.domain.budgets import Amounts, Budget, BudgetRules, Claims, Limits, Per, Window
from pagi_gateway.domain.content import Part, PartKind
from pagi_gateway.domain.errors import (
    BudgetError,
    BudgetStoreError,
    BudgetTooSmallError,
    CostLimitError,
    ProviderDownError,
    ProviderFaultError,
    ProviderTimeoutError,
    UnknownPriceError,
)
from pagi_gateway.domain.estimates import input_tokens_of
from pagi_gateway.domain.model import (
    Attempt,
    Caller,
    Delta,
    Message,
    NoteKind,
    Plan,
    PlanRequest,
    Role,
    TextDelta,
    ToolSpec,
    Usage,
)
from pagi_gateway.domain.prices import ModelPrice, PricedModel, Prices, Rate
from pagi_gateway.testing import FixedPrices, InMemorySpending, RecordingFigures, RecordingProvider, asking

NOON = datetime(2028, 2, 29, 12, 30, 59, 500_000, tzinfo=UTC).timestamp()
CALLER = Caller("acme", "ci", "run-1")
# 1 USD for a million tokens read, 10 for a million written.
PRICE = ModelPrice(Rate(1.0), Rate(10.0))
MODEL = PricedModel("recording", "model-a")
ASKED = replace(asking("x" * 300, model="model-a"), caller=CALLER, max_output_tokens=100)
# 100 tokens of text and 8 around it; 100 to be written.
MOST = Amounts(108 * 1000 + 100 * 10_000, 208, 1)
ANSWER = Plan("yes", usage=Usage(50, 20, reported=True))
USED = Amounts(50 * 1000 + 20 * 10_000, 70, 1)
USD = 10**9
UNLIMITED = Limits()


def names(claims: Claims, caller: Caller = CALLER, now: float = NOON) -> list[str]:
    return [claim.counter for claim in claims.of(caller, now)]


def budget(
    limits: Limits, per: Per = Per.ALL, window: Window = Window.DAY, name: str = "b", **members: object
) -> Budget:
    return Budget(name, window, limits, per, **members)  # type: ignore[arg-type]


def test_each_one_has_counters_of_their_own() -> None:
    rules = BudgetRules(tuple(budget(Limits(1), per, name=per.value) for per in Per))
    claims = Claims(rules)
    assert names(claims) == [
        "all|all|2028-02-29|",
        "tenant|tenant|2028-02-29|acme",
        "key|key|2028-02-29|ci",
        "run|run|2028-02-29|run-1",
    ]
    # Without a name they share one; a call of no run has no run's budget.
    assert names(claims, Caller())[1:] == ["tenant|tenant|2028-02-29|", "key|key|2028-02-29|"]
    (long,) = names(Claims(BudgetRules((budget(Limits(1), Per.TENANT),))), Caller("t" * 5000))
    assert len(long) < 100


@pytest.mark.parametrize(
    ("window", "label", "ends"),
    [
        (Window.MINUTE, "2028-02-29T12:30", datetime(2028, 2, 29, 12, 31, tzinfo=UTC)),
        (Window.DAY, "2028-02-29", datetime(2028, 3, 1, tzinfo=UTC)),
        (Window.MONTH, "2028-02", datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_windows_follow_the_calendar(window: Window, label: str, ends: datetime) -> None:
    claims = Claims(BudgetRules((budget(Limits(1), window=window),)))
    (claim,) = claims.of(CALLER, NOON)
    assert (claim.counter, claim.ends_at) == (f"b|all|{label}|", ends.timestamp())
    (last,) = claims.of(CALLER, claim.ends_at - 0.001)
    assert last.counter == claim.counter
    (following,) = claims.of(CALLER, claim.ends_at)
    assert following.counter != claim.counter
    assert claims.of(CALLER, NOON) == (claim,)
    december = datetime(2028, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert claims.of(CALLER, december)[0].ends_at == datetime(2029, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("only", "but_not", "counts"),
    [
        ((), (), {"acme", "trial-1", ""}),
        (("trial-*",), (), {"trial-1"}),
        ((), ("acme", "x"), {"trial-1", ""}),
        (("*",), ("trial-?",), {"acme", ""}),
    ],
)
def test_a_budget_may_be_for_some(only: tuple[str, ...], but_not: tuple[str, ...], counts: set[str]) -> None:
    claims = Claims(BudgetRules((budget(Limits(1), Per.TENANT, only=only, but_not=but_not),)))
    assert {tenant for tenant in ("acme", "trial-1", "") if claims.of(Caller(tenant), NOON)} == counts


@dataclass
class House:
    """A provider behind budgets."""

    limits: Limits = UNLIMITED
    per: Per = Per.TENANT
    provider: RecordingProvider = field(default_factory=lambda: RecordingProvider([ANSWER]))
    store: InMemorySpending = field(default_factory=InMemorySpending)
    figures: RecordingFigures = field(default_factory=RecordingFigures)
    prices: dict[PricedModel, ModelPrice] = field(default_factory=lambda: {MODEL: PRICE})
    reach: Callable[[str], list[PricedModel]] = field(default=lambda model: [PricedModel("recording", model)])
    rules: dict[str, object] = field(default_factory=dict)
    now: float = NOON

    def __post_init__(self) -> None:
        self.store.now = self._time
        self.budgeted = BudgetedProvider(
            self.provider, self.store, Prices(FixedPrices(self.prices)), self.reach, self.figures, now=self._time
        )
        budgets = (budget(self.limits, self.per),) if any(each is not None for each in self.limits) else ()
        self.budgeted.use(BudgetRules(budgets, **self.rules))  # type: ignore[arg-type]

    def _time(self) -> float:
        return self.now

    async def plan(self, request: PlanRequest = ASKED) -> Plan:
        return await self.budgeted.plan(request, timeout_s=10)

    async def listen(self, request: PlanRequest = ASKED) -> list[object]:
        async with aclosing(self.budgeted.stream(request, timeout_s=10)) as events:
            return [event async for event in events]

    @property
    def counted(self) -> tuple[Amounts, Amounts]:
        """Of the one budget."""
        (counter,) = self.store.counters.values()
        return counter.spent, counter.held


async def test_what_a_call_may_take_is_set_aside_and_what_it_took_is_counted() -> None:
    house = House(Limits(USD, 10_000, 100))
    house.provider.gate = asyncio.Event()
    call = asyncio.create_task(house.plan())
    while not house.provider.requests:
        await asyncio.sleep(0)
    assert house.counted == (Amounts(), MOST)
    house.provider.gate.set()
    assert (await call).text == "yes"
    assert house.counted == (USED, Amounts())
    assert (await house.listen())[-1] == await call
    assert house.counted == (Amounts(*(2 * each for each in USED)), Amounts())
    assert house.figures.spent == [("b", USED)] * 2


async def test_a_reported_cost_counts_and_so_do_the_attempts_before_the_answer() -> None:
    attempts = (
        Attempt("one", "p", "m", "WrongShape", usage=Usage(10, 1, 0.5, reported=True)),
        Attempt("two", "p", "m", "ProviderTimeout"),
        Attempt("two", "p", "m", "ProviderDown"),
        Attempt("three", "p", "m", usage=Usage(20, 2, 0.25, reported=True)),
    )
    answer = replace(ANSWER, usage=Usage(20, 2, 0.25, reported=True), attempts=attempts)
    house = House(Limits(USD), provider=RecordingProvider([answer]))
    await house.plan()
    # One that ran out of time may have been billed for what it read.
    assert house.counted[0] == Amounts(750_000_000 + 108 * 1000, 33 + 108, 1)


async def test_an_answer_without_usage_is_estimated() -> None:
    house = House(Limits(USD), provider=RecordingProvider([Plan("z" * 30)]))
    await house.plan()
    assert house.counted[0] == Amounts(108 * 1000 + 10 * 10_000, 118, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_not_left_is_refused_with_the_budgets_name_and_when_it_is_there_again(stream: bool) -> None:
    house = House(Limits(USD, None, 2))
    for _ in range(2):
        await house.plan()
    with pytest.raises(BudgetError) as caught:
        await (house.listen() if stream else house.plan())
    assert caught.value.message == (
        "the budget b has 0 left of 2 requests until 2028-03-01T00:00:00Z, and this call may take 1"
    )
    assert caught.value.retry_after_s == pytest.approx(11.5 * 3600 - 60 + 0.5)
    assert (len(house.provider.requests), house.figures.refused) == (2, [("b", "requests")])
    # Another tenant has another counter, and the next day begins anew.
    await house.plan(replace(ASKED, caller=Caller("bolt")))
    house.now = caught.value.retry_after_s + house.now
    await house.plan()


async def test_what_calls_under_way_hold_may_be_there_soon() -> None:
    house = House(Limits(2 * MOST.usd_nano - 1))
    house.provider.gate = asyncio.Event()
    call = asyncio.create_task(house.plan())
    while not house.provider.requests:
        await asyncio.sleep(0)
    with pytest.raises(BudgetError, match=r"0\.001107999 left|0\.00110\d* left") as caught:
        await house.plan()
    assert caught.value.retry_after_s == 1
    assert "0.001108 are set aside for calls that are under way" in caught.value.message
    house.provider.gate.set()
    await call
    await house.plan()


async def test_a_call_that_no_budget_could_pay_is_told_so() -> None:
    house = House(Limits(None, 207))
    with pytest.raises(BudgetTooSmallError, match="may take 208 tokens, and the whole budget b is 207"):
        await house.plan()
    await house.plan(replace(ASKED, max_output_tokens=99))


async def test_a_call_without_a_limit_gets_one_where_money_or_tokens_are_limited() -> None:
    for limits, sent in ((Limits(USD), 500), (Limits(None, 10_000), 500), (Limits(None, None, 5), 0), (Limits(), 0)):
        house = House(limits, rules={"output_tokens": 500})
        await house.plan(replace(ASKED, max_output_tokens=0))
        assert house.provider.requests[0].max_output_tokens == sent
        await house.plan(ASKED)
        assert house.provider.requests[1] is ASKED


async def test_the_dearest_of_those_who_may_answer_is_set_aside() -> None:
    other = PricedModel("recording", "model-b")
    house = House(Limits(USD), prices={MODEL: PRICE, other: ModelPrice(Rate(2.0), Rate(1.0))})
    house.budgeted._reach = lambda _: [MODEL, other]
    house.provider.gate = asyncio.Event()
    call = asyncio.create_task(house.plan())
    while not house.provider.requests:
        await asyncio.sleep(0)
    assert house.counted[1] == MOST
    house.provider.gate.set()
    await call


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "used"),
    [
        (ProviderDownError("gone"), Amounts(0, 0, 1)),
        (ProviderTimeoutError("late"), Amounts(108 * 1000, 108, 1)),
        (ValueError("a fault of ours"), Amounts(0, 0, 1)),
    ],
)
async def test_what_failed_holds_nothing_and_counts_what_may_have_been_billed(
    error: Exception, used: Amounts, stream: bool
) -> None:
    house = House(Limits(USD), provider=RecordingProvider([error]))
    with pytest.raises(type(error)):
        await (house.listen() if stream else house.plan())
    assert house.counted == (used, Amounts())


async def test_the_attempts_of_a_failure_count() -> None:
    error = ProviderDownError("gone")
    error.attempts = (Attempt("one", "p", "m", "WrongShape", usage=Usage(10, 1, 0.5, reported=True)),)
    house = House(Limits(USD), provider=RecordingProvider([error]))
    with pytest.raises(ProviderDownError):
        await house.plan()
    assert house.counted[0] == Amounts(500_000_000, 11, 1)


class BrokenStream(RecordingProvider):
    """Sends some text, then breaks as a router tells it."""

    def __init__(self, error: ProviderFaultError) -> None:
        super().__init__([error])
        self._error = error

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        yield TextDelta("x" * 60)
        raise self._error


@pytest.mark.parametrize(
    ("attempts", "used"),
    [
        # Nobody said what it used: what it read and wrote, once.
        ([Attempt("one", "p", "m", "ProviderTimeout")], Amounts(108 * 1000 + 20 * 10_000, 128, 1)),
        ([Attempt("one", "p", "m", "ProviderDown")], Amounts(108 * 1000 + 20 * 10_000, 128, 1)),
        # It said so itself, before its answer was found to be of the wrong form.
        (
            [Attempt("one", "p", "m", "WrongShape", usage=Usage(10, 20, 0.5, reported=True))],
            Amounts(500_000_000, 30, 1),
        ),
        # What was before it counts besides.
        (
            [Attempt("one", "p", "m", "ProviderTimeout"), Attempt("two", "p", "m", "ProviderDown")],
            Amounts(2 * 108 * 1000 + 20 * 10_000, 236, 1),
        ),
    ],
)
async def test_a_stream_that_breaks_is_paid_for_once(attempts: list[Attempt], used: Amounts) -> None:
    error = ProviderFaultError("broke")
    error.attempts = tuple(attempts)
    house = House(Limits(USD), provider=BrokenStream(error))
    with pytest.raises(ProviderFaultError):
        await house.listen()
    assert house.counted == (used, Amounts())


async def test_a_caller_that_leaves_pays_for_what_was_read_and_written_so_far() -> None:
    house = House(Limits(USD), provider=RecordingProvider([Plan("x" * 1000)], pieces=30))
    house.provider.gate = asyncio.Event()
    call = asyncio.create_task(house.plan())
    while not house.provider.requests:
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert house.counted == (Amounts(108 * 1000, 108, 1), Amounts())
    house.provider.gate.set()
    stream = house.budgeted.stream(ASKED, timeout_s=10)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert house.counted == (Amounts(2 * 108 * 1000 + 20 * 10_000, 2 * 108 + 20, 2), Amounts())


async def test_who_leaves_after_the_answer_has_paid_for_it() -> None:
    house = House(Limits(USD))
    async with aclosing(house.budgeted.stream(ASKED, timeout_s=10)) as events:
        async for event in events:
            if isinstance(event, Plan):
                break
    assert house.counted == (USED, Amounts())


async def test_an_unknown_price_is_refused_under_a_budget_of_money_only() -> None:
    unknown = replace(ASKED, model="model-b")
    house = House(Limits(USD))
    with pytest.raises(UnknownPriceError, match="the price of model-b at recording is not known, and the budget b"):
        await house.plan(unknown)
    assert house.figures.refused == [("b", "unknown_price")]
    with pytest.raises(UnknownPriceError, match=r"the budget limits\.max_cost_usd"):
        await House().plan(replace(unknown, max_cost_usd=1))
    await House(Limits(None, 1000, 10)).plan(unknown)
    allowing = House(Limits(USD), rules={"allow_unknown_price": True})
    await allowing.plan(unknown)
    assert allowing.counted[0] == Amounts(0, 70, 1)


async def test_a_requests_own_cost_limit_caps_its_answer() -> None:
    house = House()
    plan = await house.plan(replace(ASKED, max_cost_usd=0.000408))
    assert house.provider.requests[-1].max_output_tokens == 30
    assert [(note.kind, note.field) for note in plan.notes] == [(NoteKind.LIMITED, "limits.max_cost_usd")]
    assert plan.notes[0].message == "0.000408 US dollars pay for at most 30 tokens of answer"
    plenty = replace(ASKED, max_cost_usd=1)
    assert (await house.plan(plenty)).notes == ()
    assert house.provider.requests[-1] is plenty
    with pytest.raises(CostLimitError, match="the input of about 108 tokens alone may cost more"):
        await house.plan(replace(ASKED, max_cost_usd=0.000108))
    # What is set aside in a budget is what is left to write.
    house = House(Limits(USD))
    house.provider.gate = asyncio.Event()
    call = asyncio.create_task(house.plan(replace(ASKED, max_cost_usd=0.000408)))
    while not house.provider.requests:
        await asyncio.sleep(0)
    assert house.counted[1] == Amounts(408_000, 138, 1)
    house.provider.gate.set()
    await call


async def test_without_the_counters_nothing_is_asked_unless_allowed() -> None:
    house = House(Limits(USD))
    house.store.failing = True
    with pytest.raises(BudgetStoreError):
        await house.plan()
    assert (house.provider.requests, house.figures.store_failures) == ([], 1)
    house = House(Limits(USD), rules={"allow_without_store": True})
    house.store.failing = True
    assert (await house.plan()).text == "yes"
    assert (house.figures.store_failures, house.figures.spent, dict(house.store.counters)) == (1, [], {})


async def test_without_budgets_nothing_is_done() -> None:
    house = House()
    await house.plan()
    await house.listen()
    assert house.provider.requests == [ASKED, ASKED]
    assert dict(house.store.counters) == {}


def test_the_estimate_is_on_the_safe_side() -> None:
    plain = PlanRequest((Message(Role.USER, "word " * 1000),))
    assert 1000 < input_tokens_of(plain) < 2000
    chinese = PlanRequest((Message(Role.USER, "\u4f60\u597d" * 500),))
    assert input_tokens_of(chinese) == 1008
    tools = replace(plain, tools=(ToolSpec("math", "d" * 30, "{}" * 30),))
    assert input_tokens_of(tools) - input_tokens_of(plain) == 16 + 94 // 3
    for part, tokens in (
        (Part(PartKind.IMAGE, data=b"1" * 10_000_000), 1600),
        (Part(PartKind.FILE, data=b"1" * 160_000), 10_000),
        (Part(PartKind.FILE, data=b"1"), 1600),
        (Part(PartKind.FILE, url="https://x/y.pdf"), 32_000),
        (Part(PartKind.TEXT, "abc"), 1),
    ):
        assert input_tokens_of(PlanRequest((Message(Role.USER, parts=(part,)),))) == 8 + tokens
