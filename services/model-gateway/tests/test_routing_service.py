"""The service with a `models.yaml`, over real sockets: two aimocks of which one fails, and servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from aimock_pytest import AIMockServer
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.component import StartError
from pagi_chassis.errors import NotFoundError, PagiError, ResourceExhaustedError, UnavailableError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.http_server import HttpServer
from pagi_chassis.settings import load
from pagi_gateway.adapters.models_watch import ModelsWatch
from pagi_gateway.bootstrap import build
from pagi_gateway.settings import GatewaySettings

MODEL = "gpt-4o-mini"
Exchange = Any
Serve = Callable[[Callable[[Exchange], Awaitable[None]]], Awaitable[Any]]
both = pytest.mark.parametrize("how", ["whole", "stream"])


@dataclass
class Service:
    """A running gateway and a client of it."""

    client: GrpcClient
    stub: gateway_pb2_grpc.ModelGatewayStub
    http: str
    path: Path
    watch: ModelsWatch

    async def ask(self, text: str = "hello", *, model: str = "", how: str = "whole") -> pb.GetPlanResponse:
        if how == "whole":
            return await self.client.call(self.stub.GetPlan, asked(text, model), timeout_s=5)
        *_, last = await self.listen(text, model=model)
        return last.response

    async def listen(self, text: str = "hello", *, model: str = "") -> list[pb.StreamPlanResponse]:
        """Every event of a stream; an error is raised."""
        heard: list[pb.StreamPlanResponse] = []
        await self.hear(heard, text, model)
        return heard

    async def hear(self, heard: list[pb.StreamPlanResponse], text: str, model: str = "", effect_id: str = "") -> None:
        request = pb.StreamPlanRequest(plan=asked(text, model, effect_id))
        async for event in self.client.stream(self.stub.StreamPlan, request, timeout_s=5):
            heard.append(event)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"{self.http}{path}")

    async def rewrite(self, text: str) -> None:
        """Changes the file, and has it looked at."""
        self.path.write_text(text)
        await self.watch.look()


def asked(text: str, model: str = "", effect_id: str = "") -> pb.GetPlanRequest:
    return pb.GetPlanRequest(messages=[pb.Message(role=pb.ROLE_USER, text=text)], model=model, effect_id=effect_id)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    path = tmp_path / "models.yaml"

    @asynccontextmanager
    async def start(models: str, **variables: str) -> AsyncIterator[Service]:
        path.write_text(models)
        ports = {"MODEL_GATEWAY_GRPC_PORT": "0", "MODEL_GATEWAY_HTTP_PORT": "0"}
        for name, value in {**ports, "TEAM_KEY": "sk-team", **variables}.items():
            monkeypatch.setenv(name, value)
        components = await build(load(GatewaySettings))
        for component in components:
            await component.start()
        ports_of = {type(each): each.port for each in components if isinstance(each, GrpcServer | HttpServer)}
        watch = next(each for each in components if isinstance(each, ModelsWatch))
        client = GrpcClient(f"127.0.0.1:{ports_of[GrpcServer]}")
        http = f"http://127.0.0.1:{ports_of[HttpServer]}"
        try:
            yield Service(client, gateway_pb2_grpc.ModelGatewayStub(client.channel), http, path, watch)
        finally:
            await client.close()
            for component in reversed(components):
                await component.stop()

    return start


def models(more: str = "", *, first: str, second: str, **members: str) -> str:
    """Two OpenAI-compatible targets, asked one after the other."""
    extra = {name: members.get(name, "") for name in ("one", "two")}
    return f"""\
targets:
  one: {{provider: openai, model: {MODEL}, base_url: "{first}", api_key_env: TEAM_KEY{extra["one"]}}}
  two: {{provider: openai, model: {MODEL}, base_url: "{second}", api_key_env: TEAM_KEY{extra["two"]}}}
aliases:
  default: [one, two]
{more}"""


def outcomes(plan: pb.GetPlanResponse) -> list[tuple[str, str]]:
    return [(each.target, each.outcome) for each in plan.attempts]


@both
@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_a_failing_aimock_is_stood_in_for_by_another(
    serving: Any, aimock_fresh: AIMockServer, another_aimock: AIMockServer, how: str, status: int
) -> None:
    another_aimock.reset()
    aimock_fresh.on_message("heron", {"error": {"message": "herons everywhere", "type": "test"}, "status": status})
    another_aimock.on_message("heron", {"content": "It stands in the river."})
    text = models(first=f"{aimock_fresh.base_url}/v1", second=f"{another_aimock.base_url}/v1")
    async with serving(text) as service:
        plan = await service.ask("where is the heron?", how=how)
        assert plan.text == "It stands in the river."
        assert outcomes(plan) == [("one", "ProviderBusy" if status == 429 else "ProviderDown"), ("two", "ok")]
        assert "herons everywhere" in plan.attempts[0].message
        assert plan.attempts[0].latency_ms > 0
        assert plan.attempts[1].model == MODEL


@both
async def test_another_provider_stands_in(
    serving: Any, aimock_fresh: AIMockServer, another_aimock: AIMockServer, how: str
) -> None:
    another_aimock.reset()
    aimock_fresh.on_message("heron", {"error": {"message": "overloaded", "type": "overloaded_error"}, "status": 529})
    another_aimock.on_message("heron", {"content": "It stands."})
    text = f"""\
targets:
  claude: {{provider: anthropic, model: claude-sonnet-4-5, base_url: "{aimock_fresh.base_url}/v1"}}
  gpt: {{provider: openai, model: {MODEL}, base_url: "{another_aimock.base_url}/v1", api: responses}}
aliases: {{default: [claude, gpt]}}
"""
    async with serving(text) as service:
        plan = await service.ask("where is the heron?", how=how)
        assert (plan.text, plan.provider) == ("It stands.", "openai")
        assert [(each.provider, each.outcome) for each in plan.attempts] == [
            ("anthropic", "ProviderDown"),
            ("openai", "ok"),
        ]


@pytest.mark.parametrize("effect_id", ["", "run/1/1"])
async def test_a_stream_that_is_cut_ends_with_what_was_received(
    serving: Any, aimock_fresh: AIMockServer, another_aimock: AIMockServer, effect_id: str
) -> None:
    another_aimock.reset()
    another_aimock.on_message("long", {"content": "never asked"})
    aimock_fresh.on_message("long", {"content": "word " * 50}, chunkSize=5, latency=2, truncateAfterChunks=4)
    text = models(first=f"{aimock_fresh.base_url}/v1", second=f"{another_aimock.base_url}/v1")
    async with serving(text) as service:
        heard: list[pb.StreamPlanResponse] = []
        with pytest.raises(UnavailableError) as caught:
            await service.hear(heard, "long", effect_id=effect_id)
        *deltas, last = heard
        assert last.WhichOneof("event") == "broken"
        got = "".join(event.text_delta for event in deltas)
        assert got
        assert last.broken.received.text == got
        assert (last.broken.outcome, last.broken.message) == ("ProviderDown", caught.value.message)
        assert last.broken.received.finish_reason == pb.FINISH_REASON_UNSPECIFIED
        assert outcomes(last.broken.received) == [("one", "ProviderDown")]
        assert await asyncio.to_thread(another_aimock.get_last_request) is None


async def plain(exchange: Exchange, text: str = "hi", headers: str = "") -> None:
    message = {"message": {"content": text}, "finish_reason": "stop"}
    await exchange.reply(json.dumps({"choices": [message]}), headers=headers)


@both
async def test_a_call_that_is_cancelled_in_the_middle_of_a_failover_closes_the_socket(
    serving: Any, raw_server: Serve, how: str
) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        begun.set()
        await exchange.hung_up()
        closed.set()

    failing = await raw_server(lambda exchange: exchange.reply("{}", status="503 X"))
    hanging = await raw_server(hang)
    async with serving(models(first=failing.base_url, second=hanging.base_url)) as service:
        call = asyncio.create_task(service.ask(how=how))
        await asyncio.wait_for(begun.wait(), 5)
        left = asyncio.get_running_loop().time()
        call.cancel()
        await asyncio.wait_for(closed.wait(), 5)
        assert asyncio.get_running_loop().time() - left < 0.1
        states = (await service.stub.ListModels(pb.ListModelsRequest(), timeout=5)).models[0].targets
        assert [state.in_flight for state in states] == [0, 0]


async def test_refused_slow_and_unreadable_targets_are_passed_by(
    serving: Any, raw_server: Serve, unused_tcp_port: int
) -> None:
    slow = await raw_server(lambda exchange: exchange.hung_up())
    page = await raw_server(lambda exchange: exchange.reply("<html>hello</html>", kind="text/html"))
    good = await raw_server(plain)
    urls = [f"http://127.0.0.1:{unused_tcp_port}/v1", slow.base_url, page.base_url, good.base_url]
    targets = "\n".join(
        f'  t{n}: {{provider: openai, model: m, base_url: "{url}", timeouts: {{total_seconds: 0.05}}}}'
        for n, url in enumerate(urls)
    )
    text = f"targets:\n{targets}\naliases: {{default: [t0, t1, t2, t3]}}\nrouting: {{attempts: 4}}\n"
    async with serving(text) as service:
        plan = await service.ask()
        assert outcomes(plan) == [
            ("t0", "ProviderDown"),
            ("t1", "ProviderTimeout"),
            ("t2", "ProviderAnswer"),
            ("t3", "ok"),
        ]
        assert "authorization" not in good.exchanges[0].headers, "a key goes nowhere unasked"


async def test_keys_are_those_of_the_variables_that_targets_name(serving: Any, raw_server: Serve) -> None:
    house = await raw_server(plain)
    text = models(first=house.base_url, second=house.base_url).replace("TEAM_KEY", "OTHER_KEY", 1)
    async with serving(text, OTHER_KEY="sk-other", OPENAI_API_KEY="sk-own") as service:
        for name in ("one", "two"):
            await service.ask(model=name)
    assert [each.headers["authorization"] for each in house.exchanges] == ["Bearer sk-other", "Bearer sk-team"]
    refusing = await raw_server(lambda exchange: exchange.reply("no sk-other", status="401 X"))
    text = models(first=refusing.base_url, second=house.base_url).replace("TEAM_KEY", "OTHER_KEY", 1)
    async with serving(text, OTHER_KEY="sk-other") as service:
        plan = await service.ask()
        assert outcomes(plan) == [("one", "ProviderAccess"), ("two", "ok")]
        assert "does not accept the key in OTHER_KEY: no ***" in plan.attempts[0].message


async def test_a_target_whose_headers_say_that_nothing_is_left_is_spared(serving: Any, raw_server: Serve) -> None:
    headers = (
        "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m0s\r\n"
    )
    one = await raw_server(lambda exchange: plain(exchange, "from one", headers))
    two = await raw_server(lambda exchange: plain(exchange, "from two"))
    async with serving(models(first=one.base_url, second=two.base_url)) as service:
        assert [(await service.ask()).text for _ in range(3)] == ["from one", "from two", "from two"]
        with pytest.raises(ResourceExhaustedError, match="rests for") as caught:
            await service.client.call(service.stub.GetPlan, asked("x", "one"), timeout_s=0.2)
        assert 0 < caught.value.retry_after_s <= 1.1


async def test_what_a_target_of_the_file_before_says_is_not_taken_for_its_namesakes_word(
    serving: Any, raw_server: Serve
) -> None:
    hold = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await hold.wait()
        headers = "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m0s\r\n"
        await plain(exchange, "old", headers)

    old, new = await raw_server(late), await raw_server(lambda exchange: plain(exchange, "new"))
    async with serving(models(first=old.base_url, second=new.base_url)) as service:
        on_its_way = asyncio.create_task(service.ask(model="one"))
        while not old.exchanges:
            await asyncio.sleep(0.005)
        await service.rewrite(models(first=new.base_url, second=new.base_url))
        hold.set()
        assert (await on_its_way).text == "old"
        assert (await service.ask(model="one")).text == "new"


async def test_what_is_known_of_targets_is_listed_shown_and_counted(serving: Any, raw_server: Serve) -> None:
    busy = await raw_server(lambda exchange: exchange.reply("{}", status="429 X", headers="Retry-After: 60\r\n"))
    good = await raw_server(plain)
    async with serving(models("  judge: two\n", first=busy.base_url, second=good.base_url)) as service:
        await service.ask()
        listed = (await service.stub.ListModels(pb.ListModelsRequest(), timeout=5)).models
        assert [(info.name, info.is_default) for info in listed] == [
            ("default", True),
            ("judge", False),
            ("one", False),
            ("two", False),
            (MODEL, False),
        ]
        one, two = listed[0].targets
        assert (one.name, one.circuit, one.last_error_outcome) == ("one", pb.TargetState.CIRCUIT_CLOSED, "ProviderBusy")
        assert 50 < one.resting_s <= 60
        assert one.last_error_unix_ms > 1_700_000_000_000
        assert (two.last_error_outcome, two.resting_s) == ("", 0)
        assert one.HasField("capabilities")
        health = (await service.get("/health")).json()
        assert health["dependencies"] == {"targets": {"status": "ok"}, "models.yaml": {"status": "ok"}}
        assert health["targets"]["one"]["resting_s"] > 50
        metrics = (await service.get("/metrics")).text
        for line in ('attempts_total{outcome="ProviderBusy",target="one"}', 'failovers_total{target="one"}'):
            assert re.search(rf"^pagi_gateway_{re.escape(line)} [1-9]", metrics, re.MULTILINE), line


async def test_no_caller_sees_what_one_of_two_providers_does_wrong(serving: Any, raw_server: Serve) -> None:
    """A hundred requests at once, while one of the two does something else wrong each time."""
    chance = random.Random(5)

    async def bad(exchange: Exchange) -> None:
        match chance.randrange(5):
            case 0:
                await exchange.reply("{}", status="503 X")
            case 1:
                exchange.reset()
            case 2:
                await exchange.reply("<html>oh</html>", kind="text/html")
            case 3:
                await exchange.hung_up()
            case 4:
                await exchange.begin_stream()
                exchange.reset()

    one = await raw_server(bad)
    two = await raw_server(lambda exchange: plain(exchange, "all is well"))
    text = models(
        "routing: {attempts: 2, breaker: {failures: 1000}}\n",
        first=one.base_url,
        second=two.base_url,
        one=", timeouts: {total_seconds: 0.3}, limits: {concurrent: 40}",
    )
    async with serving(text) as service:
        asking = [service.ask(str(number), how=("whole", "stream")[number % 2]) for number in range(100)]
        plans = await asyncio.gather(*asking)
        assert {plan.text for plan in plans} == {"all is well"}
        assert all(plan.attempts[-1].target == "two" for plan in plans)
        assert sum(len(plan.attempts) == 2 for plan in plans) >= len(one.exchanges) > 5
        states = (await service.stub.ListModels(pb.ListModelsRequest(), timeout=5)).models[0].targets
        assert [state.in_flight for state in states] == [0, 0]
        assert states[0].last_error_outcome


async def test_the_file_changes_under_load(serving: Any, raw_server: Serve) -> None:
    hold = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await hold.wait()
        await plain(exchange, "from the old one")

    old, new = await raw_server(slow), await raw_server(lambda exchange: plain(exchange, "from the new one"))
    before = models(first=old.base_url, second=old.base_url)
    async with serving(before) as service:
        on_its_way = asyncio.create_task(service.ask())
        while not old.exchanges:
            await asyncio.sleep(0.005)
        with pytest.raises(NotFoundError, match="there is no model 'judge'; the aliases are default"):
            await service.ask(model="judge")
        await service.rewrite(models("  judge: one\n", first=new.base_url, second=new.base_url))
        assert (await service.ask(model="judge")).text == "from the new one"
        await service.rewrite(before.replace("default: [one, two]", "default: [one, three]"))
        assert (await service.ask(model="judge")).text == "from the new one", "the wrong file changes nothing"
        health = (await service.get("/health")).json()
        assert health["status"] == "degraded"
        assert (
            "line 5: aliases.default[1]: there is no target 'three'" in health["dependencies"]["models.yaml"]["detail"]
        )
        assert "pagi_gateway_models_file_wrong 1.0" in (await service.get("/metrics")).text
        hold.set()
        assert (await on_its_way).text == "from the old one", "who was on the way keeps the connection"
        await service.rewrite("routing: {attempts: 1}\n")
        assert (await service.ask()).provider == "mock", "the environment decides again"
        assert (await service.get("/health")).json()["dependencies"]["models.yaml"] == {"status": "ok"}


@both
async def test_a_request_on_its_way_reaches_the_next_target_of_the_file_before(
    serving: Any, raw_server: Serve, how: str
) -> None:
    hold = asyncio.Event()

    async def fails_late(exchange: Exchange) -> None:
        await hold.wait()
        await exchange.reply("{}", status="503 Service Unavailable")

    async def answers(exchange: Exchange) -> None:
        if how == "whole":
            await plain(exchange, "two")
            return
        await exchange.begin_stream()
        await exchange.event({"choices": [{"delta": {"content": "two"}, "finish_reason": "stop"}]})
        await exchange.event("[DONE]")
        await exchange.end_stream()

    one, two, new = await raw_server(fails_late), await raw_server(answers), await raw_server(plain)
    async with serving(models(first=one.base_url, second=two.base_url)) as service:
        on_its_way = asyncio.create_task(service.ask(how=how))
        while not one.exchanges:
            await asyncio.sleep(0.005)
        await service.rewrite(models(first=new.base_url, second=new.base_url))
        # Longer than it takes to say goodbye to a target that nobody asks.
        await asyncio.sleep(0.15)
        hold.set()
        plan = await on_its_way
        assert plan.text == "two"
        assert [target for target, _ in outcomes(plan)] == ["one", "two"]
        # Nobody can ask it any more: its connection is closed.
        async with asyncio.timeout(5):
            while not two.exchanges[0].writer.is_closing():
                await asyncio.sleep(0.005)


async def test_a_wrong_file_stops_the_start(serving: Any) -> None:
    with pytest.raises(StartError, match=r"line 2: targets.one.provider: this must be 'mock'"):
        async with serving("targets:\n  one: {provider: x, model: m}\naliases: {default: one}\n"):
            pass
    with pytest.raises(StartError, match=r"MODELS_PATH: no such file: nowhere\.yaml"):
        async with serving("{}", MODELS_PATH="nowhere.yaml"):
            pass


async def test_the_environments_provider_is_asked_again_where_it_fails(serving: Any, raw_server: Serve) -> None:
    answers = iter([503, 429, 200])

    async def mends(exchange: Exchange) -> None:
        if (status := next(answers)) == 200:
            await plain(exchange)
        else:
            await exchange.reply("{}", status=f"{status} X", headers="Retry-After: 0.01\r\n")

    server = await raw_server(mends)
    variables = {"LLM_PROVIDER": "openai", "OPENAI_BASE_URL": server.base_url, "DEFAULT_MODEL": "m"}
    async with serving("{}", **variables) as service:
        plan = await service.ask(model="another")
        assert outcomes(plan) == [("openai", "ProviderDown"), ("openai", "ProviderBusy"), ("openai", "ok")]
        assert {each.json["model"] for each in server.exchanges} == {"another"}
    broken = await raw_server(lambda exchange: exchange.reply("{}", status="503 X"))
    async with serving("{}", **variables | {"OPENAI_BASE_URL": broken.base_url, "LLM_ATTEMPTS": "1"}) as service:
        for _ in range(5):
            with pytest.raises(UnavailableError, match="failed"):
                await service.ask()
        with pytest.raises(UnavailableError, match=r"rests for (1.0|0.\d) s after"):
            await service.client.call(service.stub.GetPlan, asked("x"), timeout_s=0.3)
        assert len(broken.exchanges) == 5, "the breaker is open"


def test_every_error_has_its_status() -> None:
    """Faults of routing reach a caller as other errors do."""
    from pagi_chassis.statuses import status_of
    from pagi_gateway.domain import errors

    faults = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PagiError)]
    plain_ones = {errors.ProviderFaultError, errors._WaitError}
    assert all(
        status_of(each("x")).grpc is not grpc.StatusCode.INTERNAL
        for each in faults
        if each not in plain_ones and each.__module__ == errors.__name__
    )
