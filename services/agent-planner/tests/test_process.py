"""The whole planner: its components in this process over fakes, and as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from pagi.agent.v1 import agent_pb2, agent_pb2_grpc
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.http_server import HttpServer
from pagi_chassis.testing import serving
from pagi_planner import RunRequest
from pagi_planner.adapters.prometheus_journal import RUNS, PrometheusJournal
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.bootstrap import build
from pagi_planner.domain.agent import Agent
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.settings import PlannerSettings
from pagi_planner.testing import (
    InMemoryMemory,
    RecordingNotifier,
    RecordingTools,
    ScriptedArchive,
    ScriptedModel,
    WaitingModel,
    saying,
)

NOBODY = "127.0.0.1:1"


def settings(folder: Path, **kwargs) -> PlannerSettings:
    return PlannerSettings(
        agent_planner_port=0,
        agent_planner_grpc_port=0,
        pagi_audit_db_path=folder / "audit.db",
        redis_addr=NOBODY,
        model_gateway_addr=NOBODY,
        memory_grpc_addr=NOBODY,
        sandbox_grpc_addr=NOBODY,
        **kwargs,
    )


@asynccontextmanager
async def running(components):
    async with AsyncExitStack() as stack:
        for component in components:
            stack.push_async_callback(component.stop)
            await component.start()
        [http] = [component for component in components if isinstance(component, HttpServer)]
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{http.port}", timeout=20))


async def test_every_part_can_be_passed_in(tmp_path):
    notifier, memory = RecordingNotifier(), InMemoryMemory()
    components = await build(
        settings(tmp_path),
        model=ScriptedModel(saying("hello")),
        memory=memory,
        archive=ScriptedArchive({}),
        tools=RecordingTools({}),
        notifier=notifier,
    )
    async with running(components) as client:
        answer = await client.post("/plan", json={"prompt": "hi"})
        assert answer.json()["result"] == "hello"
        asked = (await client.get("/health")).json()["dependencies"]
        assert not {"model-gateway", "memory", "redis"} & set(asked), "what was passed in is nobody else's"
        async with asyncio.timeout(5):
            while len(notifier.told) < 2:
                await asyncio.sleep(0.005)
    assert [event.type.value for event in notifier.told] == ["PLAN_START", "PLAN_END"]
    assert list(memory.exchanges) == [answer.json()["run_id"]]


async def test_the_same_runs_are_served_over_grpc(tmp_path):
    components = await build(
        settings(tmp_path, pagi_api_key="secret"),
        model=ScriptedModel(saying("hello")),
        memory=InMemoryMemory(),
        tools=RecordingTools({}),
        notifier=RecordingNotifier(),
    )
    async with running(components) as http:
        [server] = [component for component in components if isinstance(component, GrpcServer)]
        client = GrpcClient(f"127.0.0.1:{server.port}")
        stub = agent_pb2_grpc.AgentStub(client.channel)
        await client.check_health()
        metadata = (("x-api-key", "secret"),)
        told = [each async for each in stub.Run(agent_pb2.RunRequest(run_id="r", prompt="hi"), metadata=metadata)]
        assert told[-1].result.result == "hello"
        run = (await http.get("/runs/r", headers={"X-API-Key": "secret"})).json()
        assert (run["result"], run["session_id"]) == ("hello", told[0].begun.session_id)
        await client.close()


async def test_with_nobody_there_it_starts_and_says_who_is_missing(tmp_path):
    async with running(await build(settings(tmp_path))) as client:
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        dependencies = health.json()["dependencies"]
        assert {name: told["status"] for name, told in dependencies.items()} == dict.fromkeys(
            ("model-gateway", "memory", "sandbox", "redis"), "unavailable"
        )
        assert "Redis does not answer" in dependencies["redis"]["detail"]
        assert (await client.get("/health/live")).status_code == 200
        answer = await client.post("/plan", json={"prompt": "hi"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        run = (await client.get(f"/runs/{answer.json()['run_id']}")).json()
        assert (run["status"], sorted(run["degraded"])) == ("failed", ["memory", "sandbox"])


async def test_the_stop_answers_who_waits(tmp_path):
    model = WaitingModel(saying("done"))
    components = await build(
        settings(tmp_path), model=model, memory=InMemoryMemory(), tools=RecordingTools({}), notifier=RecordingNotifier()
    )
    async with running(components) as client:
        asking = asyncio.create_task(client.post("/plan", json={"prompt": "hi"}))
        await model.asked.wait()
        stopping = asyncio.create_task(components[-2].stop())
        await asyncio.sleep(0)
        model.go.set()
        assert (await asking).json()["result"] == "done"
        await stopping


async def test_runs_are_counted_by_how_they_end(tmp_path):
    def counted() -> dict[str, float]:
        return {status: RUNS.labels(status)._value.get() for status in ("completed", "failed", "cancelled")}

    before = counted()
    journal = SqliteJournal(tmp_path / "audit.db")
    await journal.start()
    agent = Agent(ScriptedModel(saying("x"), KeyError("y")), journal=PrometheusJournal(journal))
    await agent.run("x")
    with pytest.raises(KeyError):
        await agent.run("x")
    model = WaitingModel(saying("never"))
    runs = Runs(Agent(model, journal=PrometheusJournal(journal)), journal, max_concurrent=2)
    begun = await runs.begin(RunRequest("x"))
    await model.asked.wait()
    await runs.cancel(begun.run_id)
    await journal.stop()
    after = counted()
    assert {status: after[status] - before[status] for status in after} == {"completed": 1, "failed": 1, "cancelled": 1}


class Silent(gateway_pb2_grpc.ModelGatewayServicer):
    """A gateway that is asked and does not answer until it may."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def GetPlan(self, request, context):
        self.asked.set()
        await self.go.wait()
        return gateway_pb2.GetPlanResponse(text="hello", finish_reason=gateway_pb2.FINISH_REASON_STOP)


@contextmanager
def planner(folder: Path, port: int, gateway: str):
    environment = {
        "PATH": os.environ["PATH"],
        "AGENT_PLANNER_PORT": str(port),
        "AGENT_PLANNER_GRPC_PORT": "0",
        "PAGI_AUDIT_DB_PATH": str(folder / "audit.db"),
        "MODEL_GATEWAY_ADDR": gateway,
        "MEMORY_GRPC_ADDR": NOBODY,
        "SANDBOX_GRPC_ADDR": NOBODY,
        "REDIS_ADDR": NOBODY,
    }
    command = [sys.executable, "-m", "pagi_planner"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def is_up(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


async def test_after_a_kill_the_next_process_goes_on_with_the_run_and_a_second_one_is_kept_off(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    silent = Silent()
    register = gateway_pb2_grpc.add_ModelGatewayServicer_to_server
    async with (
        serving(register, silent, "pagi.gateway.v1.ModelGateway") as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        with planner(tmp_path, port, gateway.address) as process:
            await is_up(client)
            headers = {"Idempotency-Key": "k"}
            asking = asyncio.create_task(client.post("/plan", json={"prompt": "hi"}, headers=headers))
            async with asyncio.timeout(30):
                await silent.asked.wait()
            with planner(tmp_path, port, gateway.address) as second:
                assert await asyncio.to_thread(second.wait, 30) == 1
            assert re.search(rf"in use by process {process.pid}", (tmp_path / "log").read_text())
            [running_run] = (await client.get("/runs")).json()["runs"]
            assert running_run["status"] == "running"
            process.send_signal(signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                await asking
        silent.go.set()
        with planner(tmp_path, port, gateway.address) as process:
            await is_up(client)
            again = await client.post("/plan", json={"prompt": "hi"}, headers=headers)
            assert (again.status_code, again.json()["result"]) == (200, "hello")
            [run] = (await client.get("/runs")).json()["runs"]
            assert (run["run_id"], run["status"]) == (running_run["run_id"], "completed")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
