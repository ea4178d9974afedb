"""Settings, and the service as `bootstrap` builds it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.http_server import HttpServer
from pagi_chassis.lifecycle import StartError
from pagi_chassis.settings import SettingsError, load
from pagi_gateway.bootstrap import build
from pagi_gateway.settings import GatewaySettings

SECRET = "sk-very-secret"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def make(**variables: str) -> GatewaySettings:
        for name, value in {"MODEL_GATEWAY_GRPC_PORT": "0", "MODEL_GATEWAY_HTTP_PORT": "0", **variables}.items():
            monkeypatch.setenv(name, value)
        return load(GatewaySettings)

    return make


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[tuple[str, gateway_pb2_grpc.ModelGatewayStub]]:
    components = await build(settings)
    for component in components:
        await component.start()
    grpc_port = next(each.port for each in components if isinstance(each, GrpcServer))
    http_port = next(each.port for each in components if isinstance(each, HttpServer))
    client = GrpcClient(f"127.0.0.1:{grpc_port}")
    try:
        yield f"http://127.0.0.1:{http_port}", gateway_pb2_grpc.ModelGatewayStub(client.channel)
    finally:
        await client.close()
        for component in reversed(components):
            await component.stop()


def asked(text: str) -> pb.GetPlanRequest:
    return pb.GetPlanRequest(messages=[pb.Message(role=pb.ROLE_USER, text=text)])


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url)


def test_the_defaults_are_offline(settings: Any) -> None:
    made = settings()
    assert made.llm_provider == "mock"
    assert GatewaySettings.model_fields["model_gateway_grpc_port"].default == 50051
    assert GatewaySettings.model_fields["model_gateway_http_port"].default == 8005


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"LLM_PROVIDER": "openai"}, "OPENAI_API_KEY"),
        ({"LLM_PROVIDER": "openai", "OPENAI_BASE_URL": "http://localhost:1/v1"}, "DEFAULT_MODEL"),
        ({"LLM_PROVIDER": "openai", "OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "localhost"}, "OPENAI_BASE_URL"),
        ({"LLM_PROVIDER": "openrouter"}, "OPENROUTER_API_KEY"),
        ({"LLM_PROVIDER": "scripted"}, "SCRIPTED_RESPONSES_PATH"),
        ({"LLM_PROVIDER": "scripted", "SCRIPTED_RESPONSES_PATH": "none.json"}, "SCRIPTED_RESPONSES_PATH"),
        ({"LLM_PROVIDER": "gpt"}, "LLM_PROVIDER"),
        ({"LLM_TIMEOUT_SECONDS": "0"}, "LLM_TIMEOUT_SECONDS"),
        ({"MODEL_GATEWAY_GRPC_PORT": "70000"}, "MODEL_GATEWAY_GRPC_PORT"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(settings: Any, variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**variables)
    assert str(caught.value).startswith(f"{named}:")
    assert SECRET not in str(caught.value)


def test_keys_are_not_shown(settings: Any) -> None:
    made = settings(LLM_PROVIDER="openai", OPENAI_API_KEY=SECRET, OPENROUTER_API_KEY=SECRET)
    assert SECRET not in repr(made)
    assert SECRET not in made.model_dump_json()


@pytest.mark.parametrize(
    ("variables", "model"),
    [
        ({"LLM_PROVIDER": "openai", "OPENAI_API_KEY": SECRET}, "gpt-4o-mini"),
        ({"LLM_PROVIDER": "openai", "OPENAI_API_KEY": SECRET, "DEFAULT_MODEL": "m"}, "m"),
        ({"LLM_PROVIDER": "openrouter", "OPENROUTER_API_KEY": SECRET}, "openrouter/auto"),
        ({"LLM_PROVIDER": "openrouter", "OPENROUTER_API_KEY": SECRET, "OPENROUTER_MODEL_NAME": "a/b"}, "a/b"),
        ({"LLM_PROVIDER": "ollama"}, "llama3.2"),
        ({"LLM_PROVIDER": "ollama", "DEFAULT_MODEL": "m"}, "m"),
        ({"LLM_PROVIDER": "ollama", "DEFAULT_MODEL": "m", "OLLAMA_MODEL_NAME": "o"}, "o"),
    ],
)
async def test_each_server_is_asked_its_own_way(
    settings: Any, raw_server: Any, variables: dict[str, str], model: str
) -> None:
    async def answer(exchange: Any) -> None:
        message = {"message": {"content": "hi"}, "finish_reason": "stop"}
        await exchange.reply(json.dumps({"choices": [message]}))

    server = await raw_server(answer)
    provider = variables["LLM_PROVIDER"]
    # People leave /v1 out of Ollama's address, and write the others' with it.
    url = server.base_url.removesuffix("/v1") if provider == "ollama" else server.base_url + "/"
    if provider == "openai":
        variables = {"DEFAULT_MODEL": "gpt-4o-mini", **variables}
    made = settings(**variables, **{f"{provider.upper()}_BASE_URL": url})
    async with running(made) as (base, stub):
        plan = await stub.GetPlan(asked("hello"), timeout=5)
        assert (plan.text, plan.provider) == ("hi", provider)
        health = (await get(f"{base}/health")).json()
        assert health["dependencies"] == {provider: {"status": "ok"}}
    assert server.exchanges[0].line.split()[1] == "/v1/chat/completions"
    assert server.exchanges[0].json["model"] == model
    assert server.exchanges[0].headers.get("authorization") == (None if provider == "ollama" else f"Bearer {SECRET}")


async def test_a_provider_that_is_away_degrades_the_health(settings: Any, unused_tcp_port: int) -> None:
    made = settings(LLM_PROVIDER="ollama", OLLAMA_BASE_URL=f"http://127.0.0.1:{unused_tcp_port}")
    async with running(made) as (base, _):
        answer = await get(f"{base}/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert "cannot be reached" in answer.json()["dependencies"]["ollama"]["detail"]


async def test_the_mock_is_served_with_health_and_metrics(settings: Any) -> None:
    async with running(settings()) as (base, stub):
        assert (await stub.ListModels(pb.ListModelsRequest(), timeout=5)).models[0].name == "mock"
        await stub.GetPlan(asked("What is the capital of France?"), timeout=5)
        assert (await get(f"{base}/health")).json()["status"] == "ok"
        assert (await get(f"{base}/health/live")).status_code == 200
        assert (await get(f"{base}/health/ready")).status_code == 200
        metrics = (await get(f"{base}/metrics")).text
        assert 'pagi_gateway_requests_total{model="mock",outcome="ok",provider="mock"}' in metrics


async def test_a_script_is_played(settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('[{"text": "as written"}]')
    made = settings(LLM_PROVIDER="scripted", SCRIPTED_RESPONSES_PATH=str(path))
    async with running(made) as (_, stub):
        assert (await stub.GetPlan(asked("hello"), timeout=5)).text == "as written"


async def test_a_wrong_script_stops_the_start_with_its_line(settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('[{},\n{"txt": "a"}]')
    with pytest.raises(StartError, match=r"SCRIPTED_RESPONSES_PATH: .*line 2: an answer has no member 'txt'"):
        await build(settings(LLM_PROVIDER="scripted", SCRIPTED_RESPONSES_PATH=str(path)))
