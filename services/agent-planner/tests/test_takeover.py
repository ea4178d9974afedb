"""Two planner processes on one PostgreSQL: what one leaves the other goes on with, and a zombie does nothing more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis.testing import serving
from pagi_planner.adapters.postgres_journal import PostgresJournal
from pagi_planner.domain.state.events import FINAL, EventType
from pagi_planner.domain.state.run_state import RunState

NOBODY = "127.0.0.1:1"
RUNS = 6


class Ledger:
    """Does each effect once, and gives a repeat of its id the first result; some wait until they may go on."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.go = asyncio.Event()
        self._results: dict[str, asyncio.Future] = {}

    async def once(self, effect_id: str, result, *, waits: bool):
        self.asked[effect_id] += 1
        if (known := self._results.get(effect_id)) is None:
            known = self._results[effect_id] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().create_task(self._do(effect_id, result, known, waits))
        return await asyncio.shield(known)

    async def _do(self, effect_id, result, known, waits) -> None:
        if waits:
            await self.go.wait()
        self.done[effect_id] += 1
        known.set_result(result)


class Gateway(gateway_pb2_grpc.ModelGatewayServicer):
    """First a tool call, then an answer; runs of the prompt `ask` wait for the answer."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    async def GetPlan(self, request, context):
        is_first = request.effect_id.endswith("/1/model")
        answer = gateway_pb2.GetPlanResponse(text="done", finish_reason=gateway_pb2.FINISH_REASON_STOP)
        if is_first:
            call = gateway_pb2.ToolCall(id="c", name="append", arguments_json="{}")
            answer = gateway_pb2.GetPlanResponse(tool_calls=[call], finish_reason=gateway_pb2.FINISH_REASON_TOOL_CALLS)
        waits = not is_first and any(message.text == "ask" for message in request.messages)
        return await self.ledger.once(request.effect_id, answer, waits=waits)


class Sandbox(sandbox_pb2_grpc.ToolServiceServicer):
    """One tool, which has effects; sessions named `act…` wait in it."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    async def ListTools(self, request, context):
        tool = sandbox_pb2.Tool(name="append", parameters_schema_json="{}", effects=sandbox_pb2.EFFECTS_EFFECTFUL)
        return sandbox_pb2.ListToolsResponse(tools=[tool])

    async def ExecuteTool(self, request, context):
        answer = sandbox_pb2.ExecuteToolResponse(verdict=sandbox_pb2.VERDICT_OK, output_json="1")
        return await self.ledger.once(request.effect_id, answer, waits=request.session_id.startswith("act"))


@dataclass
class Planner:
    process: subprocess.Popen
    client: httpx.AsyncClient

    async def is_up(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await self.client.get("/health/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    assert self.process.poll() is None
                await asyncio.sleep(0.02)

    def ask(self, prompt: str, number: int) -> asyncio.Task[httpx.Response]:
        body = {"prompt": prompt, "session_id": f"{prompt}-{number}"}
        key = {"Idempotency-Key": f"{prompt} {number}"}
        return asyncio.create_task(self.client.post("/plan", json=body, headers=key))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started(folder: Path, name: str, port: int = 0, **variables: str) -> Iterator[Planner]:
    port = port or free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "AGENT_PLANNER_PORT": str(port),
        "AGENT_PLANNER_GRPC_PORT": "0",
        "AGENT_LAPSE_SECONDS": "2",
        "MEMORY_GRPC_ADDR": NOBODY,
        "REDIS_ADDR": NOBODY,
        **variables,
    }
    with (folder / name).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pagi_planner"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Planner(process, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60))
    finally:
        process.kill()
        process.wait()


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def journal(postgres_url) -> AsyncIterator[PostgresJournal]:
    journal = PostgresJournal(postgres_url)
    await journal.start()
    yield journal
    await journal.stop()


async def check(journal: PostgresJournal, run_ids: list[str], *, resumed: bool) -> None:
    """Each run has a whole journal, with one end."""
    for run_id in run_ids:
        events = await journal.events(run_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.type for event in events if event.type in FINAL] == [EventType.PLAN_END]
        resumptions = [event.data for event in events if event.type is EventType.RUN_RESUMED]
        assert [told["epoch"] for told in resumptions] == ([2] if resumed else [])
        state = RunState.of(events)
        assert (state.answer, len(state.steps), state.steps[0].error) == ("done", 1, None)
        assert state.paused_s == pytest.approx(sum(told["downtime_s"] for told in resumptions), abs=0.5)


@asynccontextmanager
async def beside(postgres_url: str) -> AsyncIterator[tuple[Gateway, Sandbox, dict[str, str]]]:
    """What planners work with, and the variables that tell them."""
    gateway, sandbox = Gateway(), Sandbox()
    serve_gateway = serving(
        gateway_pb2_grpc.add_ModelGatewayServicer_to_server, gateway, "pagi.gateway.v1.ModelGateway"
    )
    serve_sandbox = serving(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, sandbox, "pagi.sandbox.v1.ToolService")
    async with serve_gateway as at_gateway, serve_sandbox as at_sandbox:
        yield (
            gateway,
            sandbox,
            {
                "PAGI_AUDIT_DATABASE_URL": postgres_url,
                "MODEL_GATEWAY_ADDR": at_gateway.address,
                "SANDBOX_GRPC_ADDR": at_sandbox.address,
            },
        )


async def test_a_live_planner_goes_on_with_the_runs_of_a_dead_one_and_of_one_that_hangs(
    tmp_path, postgres_url, journal
):
    async with beside(postgres_url) as (gateway, sandbox, variables):
        with started(tmp_path, "one", **variables) as one, started(tmp_path, "two", **variables) as two:
            await asyncio.gather(one.is_up(), two.is_up())

            # One hangs, half of its runs with the model, half with a tool; the other takes them over and ends them.
            asking = [one.ask(prompt, n) for prompt in ("ask", "act") for n in range(RUNS // 2)]
            await until(lambda: len(gateway.ledger.asked) + len(sandbox.ledger.asked) == 5 * RUNS // 2)
            one.process.send_signal(signal.SIGSTOP)
            await until(
                lambda: sum(gateway.ledger.asked.values()) + sum(sandbox.ledger.asked.values()) >= 7 * RUNS // 2
            )
            for ledger in (gateway.ledger, sandbox.ledger):
                ledger.go.set()
            run_ids = [run.run_id for run in await journal.runs(limit=99)]
            assert len(run_ids) == RUNS
            again = await asyncio.gather(*(two.ask(prompt, n) for prompt in ("ask", "act") for n in range(RUNS // 2)))
            assert {answer.json()["result"] for answer in again} == {"done"}
            before = {run_id: await journal.events(run_id) for run_id in run_ids}
            effects = (gateway.ledger.done.copy(), sandbox.ledger.done.copy())
            await check(journal, run_ids, resumed=True)

            # The zombie wakes: it writes nothing, does nothing, and its callers are told how the runs ended.
            one.process.send_signal(signal.SIGCONT)
            answers = await asyncio.gather(*asking)
            assert {(answer.status_code, answer.json()["result"]) for answer in answers} == {(200, "done")}
            assert {run_id: await journal.events(run_id) for run_id in run_ids} == before
            assert (gateway.ledger.done, sandbox.ledger.done) == effects
            assert set(gateway.ledger.done.values()) | set(sandbox.ledger.done.values()) == {1}
            await one.is_up()

            # The other is killed in the middle of as many; the one that was a zombie takes them over.
            for ledger in (gateway.ledger, sandbox.ledger):
                ledger.go.clear()
            asking = [two.ask(prompt, n) for prompt in ("ask", "act") for n in range(RUNS, RUNS + RUNS // 2)]
            await until(lambda: len(gateway.ledger.asked) + len(sandbox.ledger.asked) == 11 * RUNS // 2)
            two.process.send_signal(signal.SIGKILL)
            assert all(
                isinstance(each, httpx.TransportError) for each in await asyncio.gather(*asking, return_exceptions=True)
            )
            for ledger in (gateway.ledger, sandbox.ledger):
                ledger.go.set()
            # Who asks the living one under the same key waits for the takeover.
            again = await asyncio.gather(
                *(one.ask(prompt, n) for prompt in ("ask", "act") for n in range(RUNS, RUNS + RUNS // 2))
            )
            assert {answer.json()["result"] for answer in again} == {"done"}
            later = [run.run_id for run in await journal.runs(limit=RUNS)]
            await check(journal, later, resumed=True)
            assert set(gateway.ledger.done.values()) | set(sandbox.ledger.done.values()) == {1}
            assert len(sandbox.ledger.done) == 2 * RUNS
            listed = (await one.client.get("/runs", params={"limit": 50})).json()["runs"]
            assert Counter(run["status"] for run in listed) == {"completed": 2 * RUNS}
            for planner in (one, two):
                await planner.client.aclose()
    assert "Traceback" not in (tmp_path / "one").read_text()
    assert json.dumps(sorted(later)) != json.dumps(sorted(run_ids))


async def test_a_planner_that_is_started_again_goes_on_at_once_with_what_it_was_killed_in(
    tmp_path, postgres_url, journal
):
    async with beside(postgres_url) as (gateway, sandbox, shared):
        variables = {
            **shared,
            # By its count alone it would be taken for dead after the test.
            "AGENT_LAPSE_SECONDS": "600",
        }
        port = free_port()
        with started(tmp_path, "first", port, **variables) as first:
            await first.is_up()
            asking = first.ask("act", 1)
            await until(lambda: sandbox.ledger.asked)
            first.process.send_signal(signal.SIGKILL)
            await asyncio.gather(asking, return_exceptions=True)
            await first.client.aclose()
        sandbox.ledger.go.set()
        with started(tmp_path, "second", port, **variables) as second:
            await second.is_up()
            answer = await second.ask("act", 1)
            assert answer.json()["result"] == "done"
            await second.client.aclose()
    [run] = await journal.runs(limit=9)
    await check(journal, [run.run_id], resumed=True)
    assert set(gateway.ledger.done.values()) | set(sandbox.ledger.done.values()) == {1}
