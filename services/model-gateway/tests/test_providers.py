"""What every provider keeps to, the fake included: one suite for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pagi_gateway.adapters.mock_provider import MockProvider
from pagi_gateway.adapters.scripted_file import read_script
from pagi_gateway.adapters.scripted_provider import ScriptedProvider
from pagi_gateway.adapters.telemetry_provider import TelemetryProvider
from pagi_gateway.domain.errors import ModelNotFoundError
from pagi_gateway.domain.model import Plan, PlanRequest, TextDelta
from pagi_gateway.domain.ports import Provider
from pagi_gateway.testing import RecordingProvider, asking

TEXT = "The heron \u2014 grey \U0001f426 \u2014 waits.\n\n  It stands still.  "
SYSTEM = f'<passage source="a.md" heading="Heron">{TEXT}</passage>'


async def openai(openai_at: Any, raw_server: Any) -> Provider:
    async def answer(exchange: Any) -> None:
        if exchange.line.startswith("GET /v1/models "):
            await exchange.reply('{"data": [{"id": "model-b"}, {"id": "model-a"}]}')
        elif exchange.json["model"] != "model-a":
            await exchange.reply('{"error": {"message": "no such model"}}', status="404 Not Found")
        elif exchange.json.get("stream"):
            await exchange.begin_stream()
            for index in range(0, len(TEXT), 3):
                await exchange.event({"choices": [{"delta": {"content": TEXT[index : index + 3]}}]})
            await exchange.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            await exchange.event("[DONE]")
            await exchange.end_stream()
        else:
            message = {"message": {"content": TEXT}, "finish_reason": "stop"}
            await exchange.reply(json.dumps({"model": "model-a", "choices": [message]}))

    server = await raw_server(answer)
    provider: Provider = await openai_at(server.base_url, default_model="model-a")
    return provider


def scripted(tmp_path: Path) -> Provider:
    path = tmp_path / "script.json"
    path.write_text(json.dumps([{"text": TEXT, "word_delay_ms": 0.01}]))
    return ScriptedProvider(read_script(path))


@pytest.fixture(params=["mock", "scripted", "openai", "recording", "telemetry"])
async def provider(request: pytest.FixtureRequest, tmp_path: Path, openai_at: Any, raw_server: Any) -> Provider:
    makers: dict[str, Callable[[], Provider | Awaitable[Provider]]] = {
        "mock": MockProvider,
        "scripted": lambda: scripted(tmp_path),
        "openai": lambda: openai(openai_at, raw_server),
        "recording": lambda: RecordingProvider([Plan(TEXT)]),
        "telemetry": lambda: TelemetryProvider(RecordingProvider([Plan(TEXT)])),
    }
    made = makers[request.param]()
    return await made if asyncio.iscoroutine(made) else made  # type: ignore[return-value]


def question(provider: Provider) -> PlanRequest:
    return asking("Does the grey heron wait?", system=SYSTEM, model=provider.default_model)


async def test_a_plan_names_who_made_it(provider: Provider) -> None:
    plan = await provider.plan(question(provider), timeout_s=5)
    assert plan.text.strip()
    assert (plan.model, plan.provider) == (provider.default_model, provider.name)


async def test_a_stream_is_the_plan_in_pieces_and_ends_with_it(provider: Provider) -> None:
    plan = await provider.plan(question(provider), timeout_s=5)
    events = [event async for event in provider.stream(question(provider), timeout_s=5)]
    assert events[-1] == plan
    deltas = [event for event in events[:-1] if isinstance(event, TextDelta)]
    assert len(deltas) == len(events) - 1
    assert "".join(delta.text for delta in deltas) == plan.text
    assert all(delta.text for delta in deltas)


async def test_a_model_that_is_not_there_is_not_found(provider: Provider) -> None:
    request = replace(question(provider), model="no-such-model")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        await provider.plan(request, timeout_s=5)
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        [event async for event in provider.stream(request, timeout_s=5)]


async def test_the_default_is_among_the_models(provider: Provider) -> None:
    models = await provider.models(timeout_s=5)
    assert [each.name for each in models if each.is_default] == [provider.default_model]
    assert {each.provider for each in models} == {provider.name}


async def test_a_stream_may_be_left_at_any_time(provider: Provider) -> None:
    stream = provider.stream(question(provider), timeout_s=5)
    await anext(stream)
    await stream.aclose()
    assert [event async for event in stream] == []
