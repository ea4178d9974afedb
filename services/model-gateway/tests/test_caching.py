"""The cache of equal requests: only where it is asked for, only what would be answered the same, per tenant."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest
from pagi_gateway.domain.caching_provider import CacheRules, CachingProvider
from pagi_gateway.domain.errors import ProviderDownError
from pagi_gateway.domain.model import (
    Attempt,
    Caller,
    Delta,
    FinishReason,
    Plan,
    PlanRequest,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from pagi_gateway.domain.model_price import PricedModel
from pagi_gateway.testing import InMemoryAnswerLedger, RecordingFigures, RecordingProvider, asking

ASKED = replace(asking("hello", model="model-a"), temperature=0.0)
ANSWER = Plan("all is well", usage=Usage(7, 3, 0.25, reported=True), attempts=(Attempt("t", "p", "m"),))
CALLING = Plan(tool_calls=(ToolCall("c", "math", "{}"),), finish_reason=FinishReason.TOOL_CALLS)


class House:
    def __init__(self, *answers: Plan | Exception, **rules: object) -> None:
        self.provider = RecordingProvider(answers or (ANSWER,))
        self.figures = RecordingFigures()
        self.reached = [PricedModel("openai", "gpt-4o")]
        self.caching = CachingProvider(self.provider, InMemoryAnswerLedger(), lambda _: self.reached, self.figures)
        self.caching.use(CacheRules(**{"models": ("model-*",), **rules}))  # type: ignore[arg-type]

    async def plan(self, request: PlanRequest = ASKED) -> Plan:
        return await self.caching.plan(request, timeout_s=5)

    async def listen(self, request: PlanRequest = ASKED) -> list[Delta | Plan]:
        async with aclosing(self.caching.stream(request, timeout_s=5)) as events:
            return [event async for event in events]

    @property
    def asked(self) -> int:
        return len(self.provider.requests)


async def test_an_equal_request_is_answered_from_memory_and_costs_nothing() -> None:
    house = House()
    first = await house.plan()
    assert not first.cached
    again = await house.plan(replace(ASKED, effect_id="run/2/0", max_cost_usd=1.0, caller=Caller("", "k", "r")))
    assert again == replace(first, cached=True, attempts=(), usage=Usage(7, 3, 0.0, reported=True))
    assert await house.listen() == [TextDelta("all is well"), again]
    assert (house.asked, house.figures.cached) == (1, ["miss", "hit", "hit"])


async def test_a_name_that_leads_elsewhere_is_asked_anew() -> None:
    house = House()
    await house.plan()
    house.reached = [PricedModel("anthropic", "claude"), PricedModel("openai", "gpt-4o", target="spare")]
    assert not (await house.plan()).cached
    house.reached.reverse()
    assert (await house.plan()).cached, "in whichever order they are asked"
    house.reached = [PricedModel("openai", "gpt-4o", "http://house/v1")]
    assert not (await house.listen())[-1].cached
    assert house.asked == 3


async def test_what_was_streamed_is_remembered() -> None:
    house = House()
    assert len(await house.listen()) == 4
    assert (await house.plan()).cached


async def test_it_is_off_where_nobody_turned_it_on() -> None:
    house = House()
    house.caching.use(CacheRules())
    await house.plan()
    await house.plan()
    assert (house.asked, house.figures.cached) == (2, [])


@pytest.mark.parametrize(
    "other",
    [
        replace(asking("hello!", model="model-a"), temperature=0.0),
        replace(ASKED, model="model-b"),
        replace(ASKED, seed=1),
        replace(ASKED, caller=Caller("acme")),
        replace(ASKED, max_output_tokens=9),
    ],
)
async def test_another_request_or_tenant_is_asked(other: PlanRequest) -> None:
    house = House()
    await house.plan()
    assert not (await house.plan(other)).cached
    assert house.asked == 2


@pytest.mark.parametrize(
    ("request_", "rules", "cached"),
    [
        (replace(ASKED, temperature=None), {}, False),
        (replace(ASKED, temperature=0.7), {}, False),
        (replace(ASKED, temperature=0.7, seed=4), {}, True),
        (replace(ASKED, temperature=0.7), {"any_temperature": True}, True),
        (ASKED, {"models": ("fast", "judge")}, False),
        (ASKED, {"models": ("fast", "model-a")}, True),
    ],
)
async def test_the_rules_say_what_counts(request_: PlanRequest, rules: dict[str, object], cached: bool) -> None:
    house = House(**rules)
    await house.plan(request_)
    assert (await house.plan(request_)).cached is cached


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER, FinishReason.OTHER])
async def test_what_was_cut_off_or_withheld_is_not_kept(reason: FinishReason) -> None:
    house = House(replace(ANSWER, finish_reason=reason))
    await house.plan()
    await house.listen()
    assert house.asked == 2


async def test_tool_calls_are_kept_only_where_that_is_allowed() -> None:
    house = House(CALLING)
    await house.plan()
    assert not (await house.plan()).cached
    house.caching.use(CacheRules(("*",), tool_calls=True))
    await house.plan()
    assert (await house.listen())[0] == ToolCallDelta(0, "c", "math", "{}")
    assert house.asked == 3
    # Rules that become narrower count for what is kept already.
    house.caching.use(CacheRules(("*",)))
    assert not (await house.plan()).cached


async def test_errors_are_not_kept() -> None:
    house = House(ProviderDownError("gone"), ANSWER)
    with pytest.raises(ProviderDownError):
        await house.plan()
    assert (await house.plan()).text == "all is well"
