"""Effects, budgets, prices and cache in the running service, over real gRPC; and a gateway that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, UnavailableError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.http_server import HttpServer
from pagi_chassis.settings import load
from pagi_gateway.adapters.accounting import Accounting
from pagi_gateway.adapters.models_watch import ModelsWatch
from pagi_gateway.bootstrap import build
from pagi_gateway.settings import GatewaySettings

SCRIPT = [
    {"when": "dear", "text": "dear", "usage": {"input_tokens": 10, "output_tokens": 5, "cost_usd": 0.4}},
    {"text": "It is 22 degrees.", "usage": {"input_tokens": 40, "output_tokens": 4}},
]


@dataclass
class Service:
    """A running gateway and a client of it."""

    client: GrpcClient
    http: str
    path: Path
    watch: ModelsWatch
    accounting: Accounting

    def __post_init__(self) -> None:
        self.stub = gateway_pb2_grpc.ModelGatewayStub(self.client.channel)

    async def ask(self, text: str, *, metadata: dict[str, str] | None = None, **members: Any) -> pb.GetPlanResponse:
        request = asked(text, **members)
        try:
            return await self.stub.GetPlan(request, timeout=10, metadata=tuple((metadata or {}).items()))
        except grpc.aio.AioRpcError as error:
            from pagi_chassis.error_details import from_rpc_error

            raise from_rpc_error(error, "here") from error

    async def listen(self, text: str, **members: Any) -> list[pb.StreamPlanResponse]:
        request = pb.StreamPlanRequest(plan=asked(text, **members))
        return [event async for event in self.client.stream(self.stub.StreamPlan, request, timeout_s=10)]

    async def metrics(self, *names: str) -> dict[str, float]:
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"{self.http}/metrics")).text.splitlines()
        found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
        return {name: found.get(name, 0.0) for name in names}


def asked(text: str, **members: Any) -> pb.GetPlanRequest:
    return pb.GetPlanRequest(messages=[pb.Message(role=pb.ROLE_USER, text=text)], **members)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))

    @asynccontextmanager
    async def start(models: str = "", **variables: str) -> AsyncIterator[Service]:
        (tmp_path / "models.yaml").write_text(models)
        given = {
            "MODEL_GATEWAY_GRPC_PORT": "0",
            "MODEL_GATEWAY_HTTP_PORT": "0",
            "LLM_PROVIDER": "scripted",
            "SCRIPTED_RESPONSES_PATH": "script.json",
            **variables,
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        components = await build(load(GatewaySettings))
        for component in components:
            await component.start()

        def part(kind: type[Any]) -> Any:
            return next(each for each in components if isinstance(each, kind))

        client = GrpcClient(f"127.0.0.1:{part(GrpcServer).port}")
        http = f"http://127.0.0.1:{part(HttpServer).port}"
        try:
            yield Service(client, http, tmp_path / "models.yaml", part(ModelsWatch), part(Accounting))
        finally:
            await client.close()
            for component in reversed(components):
                await component.stop()

    return start


async def test_an_effect_is_answered_once_over_restarts(serving: Any) -> None:
    async with serving() as service:
        before = await service.metrics('pagi_gateway_effects_total{outcome="replayed"}')
        first = await service.ask("weather", effect_id="r/1/0")
        assert not first.replayed
        again = await service.ask("weather", effect_id="r/1/0")
        assert (again.replayed, again.text, again.usage) == (True, first.text, first.usage)
        streamed = await service.listen("weather", effect_id="r/1/0")
        assert [event.WhichOneof("event") for event in streamed] == ["text_delta", "response"]
        assert streamed[-1].response.replayed
        # Tenants do not share effects.
        assert not (await service.ask("weather", effect_id="r/1/0", metadata={"x-tenant": "acme"})).replayed
        with pytest.raises(InvalidArgumentError, match="names another request already") as caught:
            await service.ask("another", effect_id="r/1/0")
        assert caught.value.field == "effect_id"
        after = await service.metrics('pagi_gateway_effects_total{outcome="replayed"}')
        assert [after[name] - before[name] for name in before] == [2.0]
    async with serving() as service:
        assert (await service.ask("weather", effect_id="r/1/0")).replayed


async def test_the_ledger_can_be_turned_off(serving: Any) -> None:
    async with serving(MODEL_LEDGER_MAX_AGE_HOURS="0") as service:
        for _ in range(2):
            assert not (await service.ask("weather", effect_id="r/1/0")).replayed


BUDGETS = """
budgets:
  rules:
    trial: {per: tenant, window: day, requests: 2, only: [trial-*]}
    keys: {per: key, window: month, usd: 1}
    runs: {per: run, window: day, tokens: 100}
"""


async def test_budgets_of_tenants_keys_and_runs_are_kept_over_a_restart(serving: Any) -> None:
    trial = {"x-tenant": "trial-1", "x-budget-key": "ci"}
    async with serving(BUDGETS) as service:
        for _ in range(2):
            await service.ask("weather", metadata=trial)
        with pytest.raises(ResourceExhaustedError, match="the budget trial has 0 left of 2 requests until") as caught:
            await service.ask("weather", metadata=trial)
        assert 0 < caught.value.retry_after_s <= 86_400
        await service.ask("weather", metadata={**trial, "x-tenant": "trial-2"})
        for _ in range(2):
            await service.ask("a dear one", metadata={"x-budget-key": "build"})
    async with serving(BUDGETS) as service:
        with pytest.raises(ResourceExhaustedError, match="trial"):
            await service.ask("weather", metadata=trial)
        # 0.8 of 1 USD are spent. A script's answers cost what it says, so nothing is set aside for them.
        await service.ask("a dear one", metadata={"x-budget-key": "build"})
        with pytest.raises(ResourceExhaustedError, match=r"the budget keys has 0 left of 1 USD"):
            await service.ask("a dear one", metadata={"x-budget-key": "build"})
        run = {"x-run-id": "run-1", "x-budget-key": "other"}
        limits = pb.GenerationLimits(max_output_tokens=20)
        await service.ask("weather", metadata=run, limits=limits)
        await service.ask("weather", metadata=run, limits=limits)
        with pytest.raises(ResourceExhaustedError, match=r"the budget runs has 12 left of 100 tokens"):
            await service.ask("weather", metadata=run, limits=limits)
        with pytest.raises(FailedPreconditionError, match="the whole budget runs is 100"):
            await service.ask("weather", metadata={**run, "x-run-id": "run-2"})
        metrics = await service.metrics(
            'pagi_gateway_budget_refused_total{budget="runs",why="tokens"}',
            'pagi_gateway_budget_spent_usd_total{budget="keys"}',
        )
        assert [value > 0 for value in metrics.values()] == [True, True]


async def test_a_refusal_carries_when_to_come_back(serving: Any) -> None:
    async with serving("budgets: {rules: {all: {window: minute, requests: 0}}}") as service:
        with pytest.raises(FailedPreconditionError, match="the whole budget all is 0"):
            await service.ask("weather")
    async with serving("budgets: {rules: {all: {window: day, requests: 1}}}") as service:
        await service.ask("weather")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.GetPlan(asked("weather"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        (details,) = [value for key, value in caught.value.trailing_metadata() if key == "grpc-status-details-bin"]
        retry = error_details_pb2.RetryInfo()
        assert status_pb2.Status.FromString(details).details[0].Unpack(retry)
        assert 0 < retry.retry_delay.ToSeconds() <= 86_400


async def test_changes_of_the_file_come_into_force_and_what_is_spent_stays(serving: Any) -> None:
    one = "budgets: {rules: {day: {window: day, requests: 1}}}"
    async with serving(one) as service:
        await service.ask("weather")
        with pytest.raises(ResourceExhaustedError):
            await service.ask("weather")
        service.path.write_text(one.replace("requests: 1", "requests: 2"))
        await service.watch.look()
        await service.ask("weather")
        with pytest.raises(ResourceExhaustedError, match="0 left of 2 requests"):
            await service.ask("weather")
        service.path.write_text("budgets: {}")
        await service.watch.look()
        await service.ask("weather")


TARGETS = """
targets:
  dear: {provider: openai, model: gpt-4o-mini, base_url: "URL", api_key_env: TEAM_KEY}
  mine: {provider: openai, model: house-model, base_url: "URL"}
aliases: {default: [dear], cheap: [mine], either: [dear, mine]}
prices:
  dear: {input_usd: 2.0, output_usd: 8.0, cached_input_usd: 0.5}
MORE
"""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}


async def completion(exchange: Any) -> None:
    message = {"role": "assistant", "content": "yes"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    await exchange.reply(json.dumps({"model": "m", "choices": [choice], "usage": USAGE}))


async def test_prices_of_the_file_are_told_counted_and_listed(
    serving: Any, raw_server: Callable[[Any], Awaitable[Any]]
) -> None:
    url = (await raw_server(completion)).base_url
    more = "budgets: {rules: {day: {window: day, usd: 0.003}}, output_tokens: 100}"
    async with serving(TARGETS.replace("URL", url).replace("MORE", more), TEAM_KEY="sk-1") as service:
        answer = await service.ask("hello")
        assert answer.usage.cost_usd == pytest.approx((600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)
        # 2.2 of 3 thousandths are spent, and the next may take 0.8 of them for its answer alone.
        with pytest.raises(ResourceExhaustedError, match=r"the budget day has 0\.0008 left of 0\.003 USD"):
            await service.ask("hello")
        for model in ("cheap", "either"):
            with pytest.raises(FailedPreconditionError, match="the price of house-model at openai is not known"):
                await service.ask("hello", model=model)
        models = (await service.stub.ListModels(pb.ListModelsRequest(), timeout=5)).models
        prices = {each.name: each.targets[0].price for each in models if each.targets[0].HasField("price")}
        assert prices["default"] == pb.Price(input_usd=2.0, output_usd=8.0, cached_input_usd=0.5)
        assert "cheap" not in prices
    async with serving(TARGETS.replace("URL", url).replace("MORE", ""), TEAM_KEY="sk-1") as service:
        assert not (await service.ask("hello", model="cheap")).usage.HasField("cost_usd")


async def test_equal_requests_are_answered_from_memory(
    serving: Any, raw_server: Callable[[Any], Awaitable[Any]]
) -> None:
    server = await raw_server(completion)
    more = "cache: {models: [default, cheap], ttl_seconds: 60}\nbudgets: {rules: {day: {window: day, requests: 1}}}"
    models = TARGETS.replace("URL", server.base_url).replace("MORE", more)
    async with serving(models, TEAM_KEY="sk-1") as service:
        first = await service.ask("hello", temperature=0.0)
        # It asks nobody, so that no budget counts it.
        again = await service.ask("hello", temperature=0.0)
        assert (first.cached, again.cached, again.text) == (False, True, "yes")
        assert (again.usage.cost_usd, again.usage.input_tokens, len(again.attempts)) == (0.0, 1000, 0)
        assert len(server.exchanges) == 1
        with pytest.raises(ResourceExhaustedError):
            await service.ask("hello")
    async with serving(models, TEAM_KEY="sk-1") as service:
        assert (await service.listen("hello", temperature=0.0))[-1].response.cached


async def test_two_gateways_share_budgets_through_redis(serving: Any, valkey_url: str, tmp_path: Path) -> None:
    name = f"shared-{os.getpid()}"
    models = f"budgets: {{rules: {{{name}: {{window: day, requests: 3}}}}}}"
    shared = {"MODEL_BUDGETS_STORE": "redis", "REDIS_ADDR": valkey_url}
    async with serving(models, **shared) as one, serving(models, **shared) as two:
        for service in (one, two, one):
            await service.ask("weather")
        for service in (one, two):
            with pytest.raises(ResourceExhaustedError, match=f"the budget {name} has 0 left of 3 requests"):
                await service.ask("weather")


async def test_the_providers_socket_is_closed_when_the_last_of_those_who_joined_leaves(
    serving: Any, raw_server: Callable[[Any], Awaitable[Any]]
) -> None:
    closed = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin_stream()
        await exchange.event({"choices": [{"delta": {"content": "one "}}]})
        await exchange.hung_up()
        closed.set()

    server = await raw_server(answer)
    models = TARGETS.replace("URL", server.base_url).replace("MORE", "")
    async with serving(models, TEAM_KEY="sk-1") as service:
        request, joined = asked("hello", effect_id="r/1/0"), 'pagi_gateway_effects_total{outcome="joined"}'
        before = await service.metrics(joined)
        first = service.stub.StreamPlan(pb.StreamPlanRequest(plan=request), timeout=30)
        assert (await first.read()).text_delta == "one "
        second = service.stub.StreamPlan(pb.StreamPlanRequest(plan=request), timeout=30)
        assert (await second.read()).text_delta == "one "
        third = service.stub.GetPlan(request, timeout=30)
        async with asyncio.timeout(5):
            while (await service.metrics(joined))[joined] < before[joined] + 2:
                await asyncio.sleep(0.005)
        for call in (first, third):
            call.cancel()
        await asyncio.sleep(0.05)
        assert not closed.is_set()
        second.cancel()
        await asyncio.wait_for(closed.wait(), 5)
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("without", ["refuse", "allow"])
async def test_without_redis_the_file_says_what_happens(serving: Any, without: str) -> None:
    models = f"budgets: {{without_store: {without}, rules: {{day: {{window: day, requests: 3}}}}}}"
    async with serving(models, MODEL_BUDGETS_STORE="redis", REDIS_ADDR="127.0.0.1:1") as service:
        if without == "allow":
            assert (await service.ask("weather")).text
        else:
            with pytest.raises(UnavailableError, match=r"the budgets cannot be checked: Redis at 127\.0\.0\.1:1"):
                await service.ask("weather")
        async with httpx.AsyncClient() as client:
            health = (await client.get(f"{service.http}/health")).json()
        assert "Redis at 127.0.0.1:1" in json.dumps(health)


async def test_a_killed_gateway_gives_its_answers_again(tmp_path: Path) -> None:
    """`kill -9`, and another process: what was answered is replayed, and what was not is asked."""
    played = tmp_path / "played"
    lines = [json.dumps(SCRIPT[0]), json.dumps({**SCRIPT[1], "word_delay_ms": 50})]
    (tmp_path / "script.json").write_text("[\n" + ",\n".join(lines) + "\n]")
    variables = {
        "LLM_PROVIDER": "scripted",
        "SCRIPTED_RESPONSES_PATH": "script.json",
        "SCRIPTED_PLAYED_PATH": str(played),
    }
    async with gateway_process(tmp_path, **variables) as (process, client):
        stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)
        first = await client.call(stub.GetPlan, asked("dear", effect_id="r/1/0"), timeout_s=10)
        # It is on disk some milliseconds after it was given.
        await until_kept(tmp_path / "gateway.db")
        # It dies in the middle of another answer.
        request = pb.StreamPlanRequest(plan=asked("weather", effect_id="r/2/0"))
        events = client.stream(stub.StreamPlan, request, timeout_s=10)
        await anext(events)
        process.send_signal(signal.SIGKILL)
        with pytest.raises(UnavailableError):
            [event async for event in events]
    async with gateway_process(tmp_path, **variables) as (_, client):
        stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)
        again = await client.call(stub.GetPlan, asked("dear", effect_id="r/1/0"), timeout_s=10)
        assert (again.replayed, again.text, again.usage.cost_usd) == (True, first.text, 0.4)
        lost = await client.call(stub.GetPlan, asked("weather", effect_id="r/2/0"), timeout_s=10)
        assert (lost.replayed, lost.text) == (False, "It is 22 degrees.")
    assert played.read_text().splitlines() == ["script.json, line 2", "script.json, line 3"]


@asynccontextmanager
async def gateway_process(folder: Path, **variables: str) -> AsyncIterator[tuple[subprocess.Popen[bytes], GrpcClient]]:
    ports = {name: str(free_port()) for name in ("MODEL_GATEWAY_HTTP_PORT", "MODEL_GATEWAY_GRPC_PORT")}
    environment = {**os.environ, **variables, **ports, "MODEL_GATEWAY_DB_PATH": "gateway.db"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pagi_gateway"], cwd=folder, env=environment, stdout=log, stderr=log
        )
    client = GrpcClient(f"127.0.0.1:{ports['MODEL_GATEWAY_GRPC_PORT']}", patience_s=20)
    try:
        stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)
        # Tried again until it is up.
        await client.call(stub.ListModels, pb.ListModelsRequest(), timeout_s=20, repeatable=True)
        yield process, client
    finally:
        await client.close()
        process.kill()
        process.wait()


async def until_kept(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        async with asyncio.timeout(5):
            while not connection.execute("SELECT count(*) FROM answers").fetchone()[0]:
                await asyncio.sleep(0.005)
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
