"""The service over real gRPC: every RPC, every error code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PagiError,
    ResourceExhaustedError,
    UnavailableError,
)
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.testing import serving
from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.convert import EFFECTS, VERDICTS
from pagi_sandbox.domain.admission import Admission
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.model import ToolOutcome, Verdict
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.domain.session_files import SessionFiles
from pagi_sandbox.domain.tool import Effects
from pagi_sandbox.servicer import SERVICE, ToolServicer
from pagi_sandbox.testing import AnyArguments, RecordingMeter, ScriptedRunner


class Client:
    def __init__(self, client: GrpcClient) -> None:
        self._client = client
        self._stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)

    async def execute(
        self, tool: str, arguments: Any, *, session: str = "s", timeout_s: float = 15.0, **limits: int
    ) -> pb.ExecuteToolResponse:
        request = pb.ExecuteToolRequest(
            tool=tool,
            arguments_json=arguments if isinstance(arguments, str) else json.dumps(arguments),
            limits=pb.Limits(**limits),
            session_id=session,
        )
        response = await self._client.call(self._stub.ExecuteTool, request, timeout_s=timeout_s)
        assert isinstance(response, pb.ExecuteToolResponse)
        return response

    async def tools(self) -> dict[str, pb.Tool]:
        response = await self._client.call(self._stub.ListTools, pb.ListToolsRequest(), timeout_s=5.0)
        return {tool.name: tool for tool in response.tools}


@pytest_asyncio.fixture(loop_scope="module")
async def client(sandbox: Sandbox, files: SessionFiles) -> AsyncIterator[Client]:
    async with serving(
        sandbox_pb2_grpc.add_ToolServiceServicer_to_server, ToolServicer(sandbox, files), SERVICE
    ) as connection:
        yield Client(connection)


async def test_lists_the_tools_as_they_say_of_themselves(client: Client) -> None:
    tools = await client.tools()
    assert sorted(tools) == [
        "delete_file",
        "fetch_url",
        "list_files",
        "math",
        "python",
        "read_file",
        "web_search",
        "write_file",
    ]
    schema = json.loads(tools["math"].parameters_schema_json)
    assert schema["required"] == ["expression"]
    assert tools["python"].effects == pb.EFFECTS_EFFECTFUL
    assert all(tool.description for tool in tools.values())


async def test_runs_a_tool(client: Client) -> None:
    response = await client.execute("math", {"expression": "(100 + 50) * 2"})
    assert response.verdict == pb.VERDICT_OK
    assert json.loads(response.output_json) == {"result": 300, "expression": "(100 + 50) * 2"}
    assert (response.error, response.truncated, response.duration_ms > 0) == ("", False, True)


async def test_sessions_and_tenants_have_workspaces_of_their_own(client: Client) -> None:
    await client.execute("write_file", {"path": "a", "content": "mine"}, session="one")
    mine = await client.execute("read_file", {"path": "a"}, session="one")
    assert json.loads(mine.output_json)["content"] == "mine"
    assert (await client.execute("read_file", {"path": "a"}, session="two")).verdict == pb.VERDICT_FAILED
    with correlation.bind(tenant="acme"):
        theirs = await client.execute("read_file", {"path": "a"}, session="one")
    assert theirs.verdict == pb.VERDICT_FAILED
    assert "does not exist" in theirs.error


@pytest.mark.parametrize(
    ("code", "limits", "verdict"),
    [
        ("1", {}, pb.VERDICT_OK),
        ("1 / 0", {}, pb.VERDICT_FAILED),
        ("while True: pass", {"timeout_ms": 200}, pb.VERDICT_TIMEOUT),
        ("bytearray(10**9)", {"memory_mb": 128}, pb.VERDICT_MEMORY),
        ("print('x' * 100)", {"output_bytes": 10}, pb.VERDICT_OUTPUT),
        ("import os; os.abort()", {}, pb.VERDICT_CRASH),
    ],
)
async def test_every_verdict_comes_over_the_wire(
    client: Client, code: str, limits: dict[str, int], verdict: int
) -> None:
    response = await client.execute("python", {"code": code}, **limits)
    assert response.verdict == verdict
    assert bool(response.error) is (verdict != pb.VERDICT_OK)


@pytest.mark.parametrize(
    ("tool", "arguments", "session", "limits", "error", "field", "complaint"),
    [
        ("mth", {}, "s", {}, NotFoundError, None, "did you mean math"),
        ("math", {}, "s", {}, InvalidArgumentError, "arguments_json", '"expression" is a required property'),
        ("math", {"expression": 1}, "s", {}, InvalidArgumentError, "arguments_json.expression", "$.expression"),
        ("math", "{", "s", {}, InvalidArgumentError, "arguments_json", "no JSON"),
        ("math", {"expression": "1"}, "../x", {}, InvalidArgumentError, "session_id", "session_id holds"),
        ("math", {"expression": "1"}, "", {}, InvalidArgumentError, "session_id", "missing"),
        ("math", {"expression": "1"}, "s", {"memory_mb": 9999}, InvalidArgumentError, "limits.memory_mb", "64 to 1024"),
        ("math", {"expression": "1"}, "s", {"disk_mb": 9999}, InvalidArgumentError, "limits.disk_mb", "1 to 200"),
    ],
)
async def test_a_wrong_request_is_an_error_that_names_the_place(
    client: Client,
    tool: str,
    arguments: Any,
    session: str,
    limits: dict[str, int],
    error: type[PagiError],
    field: str | None,
    complaint: str,
) -> None:
    with pytest.raises(error) as caught:
        await client.execute(tool, arguments, session=session, **limits)
    assert complaint in str(caught.value)
    assert getattr(caught.value, "field", None) == field


async def test_a_deadline_that_passes_stops_the_tool(client: Client, fork_runner: ForkRunner) -> None:
    with pytest.raises(DeadlineExceededError):
        await client.execute("python", {"code": "import time; time.sleep(60)"}, timeout_s=0.3)
    await _no_children(fork_runner)


async def test_a_cancelled_call_stops_the_tool(client: Client, fork_runner: ForkRunner) -> None:
    task = asyncio.create_task(client.execute("python", {"code": "import time; time.sleep(60)"}))
    while not fork_runner.running:
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait({task})
    await _no_children(fork_runner)


async def test_too_many_calls_are_refused_with_when_to_come_back(client: Client, sandbox: Sandbox) -> None:
    sandbox.admission = Admission(running=1, waiting=0)
    slow = asyncio.create_task(client.execute("python", {"code": "import time; time.sleep(1)"}))
    runner = sandbox.runners[0]
    assert isinstance(runner, ForkRunner)
    while not runner.running:
        await asyncio.sleep(0.005)
    with pytest.raises(ResourceExhaustedError) as caught:
        await client.execute("math", {"expression": "1"})
    assert caught.value.retry_after_s == 1.0
    await slow


@pytest.mark.parametrize(
    ("fault", "error"), [(UnavailableError("away"), UnavailableError), (KeyError("a bug"), InternalError)]
)
async def test_a_sandbox_that_fails_is_an_error(
    sandbox: Sandbox, files: SessionFiles, fault: Exception, error: Any
) -> None:
    sandbox.registry = ToolRegistry()
    sandbox.runners = [ScriptedRunner("echo", [fault, fault, fault])]
    sandbox.schemas = AnyArguments()
    sandbox.meter = RecordingMeter()
    sandbox.register()
    async with serving(
        sandbox_pb2_grpc.add_ToolServiceServicer_to_server, ToolServicer(sandbox, files), SERVICE
    ) as connection:
        with pytest.raises(error) as caught:
            await Client(connection).execute("echo", {})
    assert "a bug" not in str(caught.value)


async def test_forty_calls_at_once_all_come_right(client: Client) -> None:
    responses = await asyncio.gather(
        *(client.execute("math", {"expression": f"{number} * 2"}, session=f"s{number % 5}") for number in range(40))
    )
    assert [json.loads(one.output_json)["result"] for one in responses] == [number * 2 for number in range(40)]


async def test_a_pure_tool_leaves_no_workspace_whichever_way_it_goes(
    client: Client, workspaces: DirectoryWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.execute("math", {"expression": "6 * 7"})).verdict == pb.VERDICT_OK
    monkeypatch.setattr("pagi_sandbox.adapters.fork_pure_child.MOST_BYTES", 0)
    assert (await client.execute("math", {"expression": "6 * 7"})).verdict == pb.VERDICT_OK
    assert workspaces.find("", "s") is None


def test_every_verdict_and_effect_has_its_wire_value() -> None:
    assert set(VERDICTS) == set(Verdict)
    assert set(EFFECTS) == set(Effects)
    assert set(VERDICTS.values()) == set(pb.Verdict.values()) - {0}
    assert set(EFFECTS.values()) == set(pb.Effects.values()) - {0}
    assert ToolOutcome(Verdict.OK).error == ""


async def _no_children(runner: ForkRunner) -> None:
    async with asyncio.timeout(2):
        while runner.running:
            await asyncio.sleep(0.005)
