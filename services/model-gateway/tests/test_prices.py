"""Prices: as the library counts them, the operator's own first, and unknown where nobody knows."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from genai_prices import UpdatePrices, calc_price
from genai_prices import Usage as LibraryUsage
from genai_prices.data_snapshot import get_snapshot, set_custom_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from pagi_gateway.adapters import genai_price_table
from pagi_gateway.adapters.genai_price_list import GenaiPriceList, _price
from pagi_gateway.adapters.genai_price_table import Asked, look_up
from pagi_gateway.domain.capabilities import Price
from pagi_gateway.domain.model import Plan, Usage
from pagi_gateway.domain.priced_source import PricedSource
from pagi_gateway.domain.prices import FREE, ModelPrice, PricedModel, Prices, Rate
from pagi_gateway.testing import FixedPrices, RecordingProvider, asking

TIERED = ModelPrice(Rate(1.0, ((200_000, 2.0),)), Rate(4.0, ((200_000, 8.0),)), Rate(0.1), Rate(1.25), 0.5)
PRICED = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in {"openai", "anthropic", "google", "aws", "deepseek", "openrouter", "perplexity", "groq"}
    for model in provider.models
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(PRICED),
    st.integers(0, 400_000),
    st.integers(0, 200_000),
    st.integers(0, 200_000),
    st.integers(0, 100_000),
)
def test_an_answer_costs_what_the_library_says(
    asked: tuple[str, str], plain: int, cached: int, written: int, output: int
) -> None:
    provider, model = asked
    told = look_up(Asked(provider, "", model))
    if told is None:
        return
    length = plain + cached + written
    usage = Usage(length, output, reported=True, cached_input_tokens=cached, cache_write_tokens=written)
    theirs = LibraryUsage(
        input_tokens=length, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=output
    )
    expected = float(calc_price(theirs, model, provider_id=provider).total_price)
    assert _price(told).cost_usd(usage) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-5"),
        ("anthropic", "claude-sonnet-4-5"),
        ("aws", "us.amazon.nova-lite-v1:0"),
        ("deepseek", "deepseek-chat"),
        ("google", "gemini-2.5-flash"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
    ],
)
def test_the_models_that_people_ask_have_a_price(provider: str, model: str) -> None:
    assert look_up(Asked(provider, "", model)) is not None


@pytest.mark.parametrize("model", ["openai/whisper-1", "openai/tts-1", "perplexity/sonar-deep-research"])
def test_a_price_by_what_an_answer_does_not_report_is_not_known(model: str) -> None:
    provider, _, name = model.partition("/")
    assert look_up(Asked(provider, "", name)) is None


async def test_prices_are_told_by_a_process_of_its_own() -> None:
    listed = GenaiPriceList()
    mini, claude = PricedModel("openai", "gpt-4o-mini"), PricedModel("anthropic", "claude-sonnet-4-5")
    others = [
        PricedModel("bedrock", "us.amazon.nova-lite-v1:0"),
        PricedModel("openai", "llama-3.3-70b-versatile", "https://api.groq.com/openai/v1"),
    ]
    unknown = [
        PricedModel("openai", "gpt-4o-mini", "https://models.example.com/v1"),
        PricedModel("openai", "no-such-model"),
        PricedModel("qwen", "qwen-plus"),
    ]
    assert listed.known(mini) is None
    # What is wanted while a look-up runs is looked up by the next one.
    await asyncio.gather(listed.learn([mini]), listed.learn([claude, *others, *unknown]))
    assert listed.known(mini) == ModelPrice(Rate(0.15), Rate(0.6), Rate(0.075))
    price = listed.known(claude)
    assert price is not None
    assert (price.input.usd, price.cached_input, price.cache_write) == (3.0, price.cached_input, price.cache_write)
    assert price.cached_input
    assert price.cache_write
    assert all(listed.known(model) is not None for model in others)
    assert [listed.known(model) for model in unknown] == [None] * 3


@pytest.mark.parametrize(("status", "known"), [("200 OK", False), ("500 Oops", True)])
async def test_the_newest_list_counts_where_it_is_wanted_and_can_be_fetched(
    raw_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: str,
    known: bool,
) -> None:
    server = await raw_server(lambda exchange: exchange.reply("[]", status=status))
    # The library's own address is on the network.
    monkeypatch.setattr("genai_prices.UpdatePrices", partial(UpdatePrices, url=server.base_url))
    try:
        await asyncio.to_thread(genai_price_table._update)
        assert (look_up(Asked("openai", "", "gpt-4o-mini")) is not None) is known
    finally:
        set_custom_snapshot(None)
    assert ("those of the installed library count" in capsys.readouterr().err) is known


async def test_what_runs_at_home_is_on_no_list_and_nothing_is_started_for_it() -> None:
    listed = GenaiPriceList(program="pagi_gateway.no_such_program")
    models = [PricedModel("ollama", "llama3.2")] + [
        PricedModel("openai", "gpt-4o", url)
        for url in ("http://127.0.0.1:8000/v1", "http://vllm:8000/v1", "http://localhost/v1", "http://[::1]:80/v1")
    ]
    listed.want(models)
    assert listed._looking is None
    await listed.learn(models)
    assert [listed.known(model) for model in models] == [None] * 5


async def test_an_answer_does_not_wait_long_for_its_price() -> None:
    listed, model = GenaiPriceList(patience_s=0.001), PricedModel("openai", "gpt-4o-mini")
    await listed.learn([model])
    assert listed.known(model) is None
    assert listed._looking is not None
    await listed._looking
    assert listed.known(model) is not None


async def test_a_look_up_under_way_ends_with_the_service() -> None:
    listed = GenaiPriceList()
    listed.want([PricedModel("openai", "gpt-4o")])
    await asyncio.sleep(0.01)
    await listed.stop()
    assert listed._looking is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_look_up_that_fails_is_logged_and_tried_again_later(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    listed = GenaiPriceList(program="pagi_gateway.no_such_program", now=clock)
    model = PricedModel("openai", "gpt-4o-mini")
    await listed.learn([model])
    assert listed.known(model) is None
    assert "prices cannot be looked up, so they are not known" in caplog.text
    assert "no_such_program" in caplog.text
    listed._program = GenaiPriceList()._program
    await listed.learn([model])
    assert listed.known(model) is None
    clock.now = 61
    listed.known(model)
    assert listed._refreshing is not None
    await listed._refreshing
    assert listed.known(model) == ModelPrice(Rate(0.15), Rate(0.6), Rate(0.075))


def test_what_is_cached_is_counted_once_and_long_inputs_cost_more() -> None:
    usage = Usage(1000, 10, reported=True, cached_input_tokens=600, cache_write_tokens=100)
    assert TIERED.cost_usd(usage) == pytest.approx((300 * 1.0 + 600 * 0.1 + 100 * 1.25 + 10 * 4.0) / 1e6 + 0.5)
    assert replace(TIERED, cached_input=None).cost_usd(usage) == pytest.approx(
        (900 * 1.0 + 100 * 1.25 + 10 * 4.0) / 1e6 + 0.5
    )
    assert TIERED.cost_usd(Usage(200_000, 1)) == pytest.approx(0.2 + 4e-6 + 0.5)
    assert TIERED.cost_usd(Usage(200_001, 1)) == pytest.approx(0.400002 + 8e-6 + 0.5)
    assert TIERED.listed() == Price(1.0, 4.0, 0.1, 1.25)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400_000), st.integers(0, 100_000), st.floats(0, 1), st.floats(0, 2))
def test_no_answer_costs_more_than_it_may_and_what_is_affordable_fits(
    tokens: int, output: int, share: float, usd: float
) -> None:
    cached = int(tokens * share)
    usage = Usage(tokens, output, cached_input_tokens=cached, cache_write_tokens=tokens - cached)
    assert TIERED.cost_usd(usage) <= TIERED.most_usd(tokens, output) + 1e-12
    affordable = TIERED.affordable_output(tokens, usd)
    assert affordable is not None
    if affordable:
        assert TIERED.most_usd(tokens, affordable) <= usd + 1e-12
    assert TIERED.most_usd(tokens, affordable + 1) > usd - 1e-12
    assert FREE.affordable_output(tokens, usd) is None


OWN = ModelPrice(Rate(5.0), Rate(6.0))
OTHER = ModelPrice(Rate(7.0), Rate(8.0))
LISTED = ModelPrice(Rate(1.0), Rate(2.0))


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, LISTED),
        ({"m": OWN}, OWN),
        ({"openai/m": OWN, "m": OTHER}, OWN),
        ({"here": OWN, "openai/m": OTHER}, OWN),
        ({"openai/*": OWN}, OWN),
        ({"openai/*": OTHER, "m": OWN}, OWN),
        ({"anthropic/*": OWN, "x": OWN}, LISTED),
    ],
)
def test_the_operators_own_price_comes_first(own: dict[str, ModelPrice], found: ModelPrice) -> None:
    model = PricedModel("openai", "m", "", "here")
    prices = Prices(FixedPrices({model: LISTED}))
    assert prices.known(model) is LISTED
    prices.use(own)
    assert prices.known(model) is found


def test_a_provider_that_is_somewhere_else_has_other_prices() -> None:
    official, elsewhere = PricedModel("openai", "m"), PricedModel("openai", "m", "http://there")
    prices = Prices(FixedPrices({official: LISTED, elsewhere: OTHER}), {"openai": "http://there"})
    assert prices.known(official) is OTHER
    assert prices.known(PricedModel("openai", "m", "http://unknown")) is None
    assert Prices(FixedPrices({official: LISTED})).known(official) is LISTED


def test_unknown_is_unknown_and_what_a_provider_reports_stays() -> None:
    listed, unlisted = PricedModel("openai", "m"), PricedModel("openai", "n")
    prices = Prices(FixedPrices({listed: LISTED}))
    used, reported = Usage(10, 10, reported=True), Usage(10, 10, 0.5, reported=True)
    assert prices.priced(used, unlisted).cost_usd is None
    assert prices.priced(Usage(), listed).cost_usd is None
    assert prices.priced(used, listed).cost_usd == pytest.approx(30e-6)
    assert prices.priced(reported, listed) is reported
    prices.use({"m": OWN})
    assert prices.priced(reported, listed).cost_usd == pytest.approx(110e-6)
    # Offline: known to cost nothing, and a script says itself what its answers cost.
    assert prices.known(PricedModel("mock", "mock")) is FREE
    assert prices.priced(used, PricedModel("scripted", "scripted")) is used


async def test_a_source_says_what_its_answers_and_models_cost() -> None:
    answer = Plan("yes", usage=Usage(10, 10, reported=True))
    source = RecordingProvider([answer], name="openai")
    listed = FixedPrices({PricedModel("openai", "model-a", "http://here", "t"): LISTED})
    priced = PricedSource(source, Prices(listed), base_url="http://here", target="t")
    asked = asking("hello", model="model-a")
    assert (await priced.plan(asked, timeout_s=1)).usage.cost_usd == pytest.approx(30e-6)
    async with aclosing(priced.stream(asked, timeout_s=1)) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, Plan)
    assert last.usage.cost_usd == pytest.approx(30e-6)
    assert (await priced.plan(replace(asked, model="model-b"), timeout_s=1)).usage.cost_usd is None
    infos = await priced.models(timeout_s=1)
    assert [info.price for info in infos] == [LISTED.listed(), None]
    # Only what is not known is looked up.
    assert listed.learned == [["model-b"], ["model-b"]]
