"""MCP servers in the whole service: from the file to ListTools and back, and a service that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient

from .test_mcp import asleep
from .test_service import Service

HERE = Path(__file__).parent


async def isolation_of(client: GrpcClient) -> pb.GetIsolationResponse:
    stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
    told = await client.call(stub.GetIsolation, pb.GetIsolationRequest(), timeout_s=5.0)
    assert isinstance(told, pb.GetIsolationResponse)
    return told


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mcp.json"
    demo = {"command": sys.executable, "args": [str(HERE / "mcp_program.py"), "stdio"]}
    math = {"command": sys.executable, "args": [str(HERE / "mcp_by_hand.py"), "good"]}
    path.write_text(json.dumps({"mcpServers": {"demo": demo, "hand": math, "bad": {"command": 7}}}))
    for name in list(os.environ):
        if name.startswith("SANDBOX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SANDBOX_MCP_CONFIG", str(path))
    monkeypatch.setenv("SANDBOX_APPROVAL_TOOLS", "hand.*")
    return path


async def call(client: GrpcClient, tool: str, arguments: str = "{}") -> pb.ExecuteToolResponse:
    stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
    request = pb.ExecuteToolRequest(tool=tool, arguments_json=arguments, session_id="demo")
    response = await client.call(stub.ExecuteTool, request, timeout_s=20.0)
    assert isinstance(response, pb.ExecuteToolResponse)
    return response


async def tools_of(client: GrpcClient) -> dict[str, pb.Tool]:
    stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
    response = await client.call(stub.ListTools, pb.ListToolsRequest(), timeout_s=5.0)
    return {tool.name: tool for tool in response.tools}


async def test_their_tools_stand_beside_ours_and_die_with_the_service(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with Service(tmp_path) as service:
        client = GrpcClient(f"127.0.0.1:{service.grpc}")
        try:
            async with asyncio.timeout(30):
                while not {"demo.add", "hand.good"} <= set(tools := await tools_of(client)):
                    await asyncio.sleep(0.1)
            assert {"math", "python", "fetch_url", "todo"} <= set(tools)
            assert tools["hand.good"].requires_approval
            assert tools["demo.add"].effects == pb.EFFECTS_READ_ONLY
            added = await call(client, "demo.add", '{"a": 20, "b": 22}')
            assert json.loads(added.output_json) == {"structured": {"result": 42}}
            told = await isolation_of(client)
            servers = {one.server: one for one in told.mcp_servers}
            assert {name: one.running for name, one in servers.items()} == {"demo": True, "hand": True}
            active = [layer.name for layer in servers["demo"].layers if layer.active]
            assert {"process", "no_new_privs"} <= set(active)
            assert list(added.layers) == active
            health = (await service.get("/health")).json()["isolation"]
            assert (health["backend"], [one["server"] for one in health["servers"]]) == ("native", ["demo", "hand"])
            picture = await call(client, "demo.picture")
            assert [artifact.media_type for artifact in picture.artifacts] == ["image/png"]
            await call(client, "demo.grow")
            async with asyncio.timeout(10):
                while "demo.grown" not in await tools_of(client):
                    await asyncio.sleep(0.05)
            await call(client, "demo.daemons", '{"seconds": "600.75"}')
            async with asyncio.timeout(5):
                while asleep("600.75") < 3:
                    await asyncio.sleep(0.02)
        finally:
            await client.close()
        os.kill(service.process.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            while asleep("600.75"):
                await asyncio.sleep(0.02)
    assert "mcpServers.bad is left out: command: str is needed" in capfd.readouterr().out
