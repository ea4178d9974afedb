"""The service as a process: settings, ports, health, metrics, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.settings import SettingsError, load
from pagi_sandbox.settings import SandboxSettings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("SANDBOX_", "RUST_SANDBOX_", "WEB_SEARCH", "SEARXNG")):
            monkeypatch.delenv(name)


class TestSettings:
    def test_defaults(self) -> None:
        settings = load(SandboxSettings)
        assert (settings.sandbox_port, settings.sandbox_grpc_port) == (8001, 50053)
        assert settings.limit_policy.default.timeout_ms == 10_000
        assert settings.limit_policy.maximum.disk_mb == 1024
        assert settings.web_search_provider == "none"

    def test_the_founding_documents_names_are_read_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUST_SANDBOX_PORT", "1001")
        monkeypatch.setenv("RUST_SANDBOX_GRPC_PORT", "1002")
        settings = load(SandboxSettings)
        assert (settings.sandbox_port, settings.sandbox_grpc_port) == (1001, 1002)

    def test_directories_are_separated_as_in_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SANDBOX_TOOLS_PATH", f"/a{os.pathsep}/b")
        assert load(SandboxSettings).sandbox_tools_path == ("/a", "/b")

    @pytest.mark.parametrize(
        ("variable", "value", "complaint"),
        [
            ("SANDBOX_PORT", "http", "SANDBOX_PORT"),
            ("SANDBOX_GRPC_PORT", "70000", "SANDBOX_GRPC_PORT"),
            ("SANDBOX_MAX_TIMEOUT_MS", "5", "SANDBOX_DEFAULT_TIMEOUT_MS is 10000"),
            ("SANDBOX_DEFAULT_MEMORY_MB", "1", "SANDBOX_DEFAULT_MEMORY_MB is 1; allowed are 64"),
            ("SANDBOX_MAX_DISK_MB", "5", "SANDBOX_DEFAULT_DISK_MB is 128"),
            ("SANDBOX_DEFAULT_CPU_MS", "0", "SANDBOX_DEFAULT_CPU_MS is 0; allowed are 1"),
            ("SANDBOX_DEFAULT_PROCESSES", "1000", "SANDBOX_MAX_PROCESSES, which is 256"),
            ("WEB_SEARCH_PROVIDER", "bing", "WEB_SEARCH_PROVIDER"),
            ("WEB_SEARCH_PROVIDER", "searxng", "SEARXNG_URL"),
            ("SANDBOX_MAX_CONCURRENT_CALLS", "0", "SANDBOX_MAX_CONCURRENT_CALLS"),
        ],
    )
    def test_a_wrong_value_names_its_variable(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
    ) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError, match=complaint):
            load(SandboxSettings)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`python -m pagi_sandbox` on free ports."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.http, self.grpc = directory, free_port(), free_port()
        self.process: asyncio.subprocess.Process

    async def __aenter__(self) -> Service:
        environment = {
            **os.environ,
            "SANDBOX_PORT": str(self.http),
            "SANDBOX_GRPC_PORT": str(self.grpc),
            "PAGI_TEST_SECRET": "s3cret",
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pagi_sandbox", cwd=self.directory, env=environment, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(20), httpx.AsyncClient() as http:
            while True:
                assert self.process.returncode is None, "the service ended"
                try:
                    if (await http.get(f"http://127.0.0.1:{self.http}/health/ready")).status_code == 200:
                        return self
                except httpx.TransportError:
                    await asyncio.sleep(0.02)

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.communicate()

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient() as http:
            return await http.get(f"http://127.0.0.1:{self.http}{path}")


async def execute(port: int, tool: str, arguments_json: str, effect_id: str = "") -> pb.ExecuteToolResponse:
    client = GrpcClient(f"127.0.0.1:{port}")
    try:
        stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
        request = pb.ExecuteToolRequest(
            tool=tool, arguments_json=arguments_json, session_id="demo", effect_id=effect_id
        )
        response = await client.call(stub.ExecuteTool, request, timeout_s=10.0)
        assert isinstance(response, pb.ExecuteToolResponse)
        return response
    finally:
        await client.close()


def fork_server_of(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


async def test_serves_tells_its_isolation_counts_and_ends_cleanly(tmp_path: Path) -> None:
    async with Service(tmp_path) as service:
        health = (await service.get("/health")).json()
        assert health["status"] == "ok"
        assert health["dependencies"] == {"fork-server": {"status": "ok"}}
        assert health["isolation"]["profile"] in {"L1", "L2", "L3"}, health["isolation"]
        assert all(seen["held"] for seen in health["isolation"]["observations"])
        response = await execute(service.grpc, "math", '{"expression": "6 * 7"}')
        assert response.output_json == '{"result": 42, "expression": "6 * 7"}'
        note = await execute(service.grpc, "governance_note", '{"proposal_id": "PROP-1", "note": "agreed"}')
        assert note.verdict == pb.VERDICT_OK
        search = await execute(service.grpc, "web_search", '{"query": "x"}')
        assert (search.verdict, "not configured" in search.error) == (pb.VERDICT_FAILED, True)
        secret = await execute(service.grpc, "python", '{"code": "import os; sorted(os.environ)"}')
        assert secret.output_json == "{\"value\": \"['HOME', 'LANG', 'PATH', 'TMPDIR']\"}"
        metrics = (await service.get("/metrics")).text
        assert 'pagi_sandbox_calls_total{tool="math",verdict="ok"} 1.0' in metrics
        assert 'pagi_sandbox_call_duration_seconds_count{tool="math"} 1.0' in metrics
        fork_server = fork_server_of(service.process.pid)
        service.process.terminate()
        assert await asyncio.wait_for(service.process.wait(), 10) == 0
        assert not Path(f"/proc/{fork_server}").exists()
    assert (tmp_path / "data" / "sandbox.db").exists()
    assert (tmp_path / "data" / "workspaces" / "t-" / "s-demo").is_dir()


async def test_a_service_that_is_killed_takes_fork_server_and_tools_with_it(tmp_path: Path) -> None:
    async with Service(tmp_path) as service:
        call = asyncio.create_task(
            execute(service.grpc, "python", "{\"code\": \"import time; open('ready', 'w'); time.sleep(60)\"}")
        )
        ready = tmp_path / "data" / "workspaces" / "t-" / "s-demo" / "ready"
        fork_server = fork_server_of(service.process.pid)
        async with asyncio.timeout(5):
            while not ready.exists():
                await asyncio.sleep(0.01)
        there = [fork_server, *below(fork_server)]
        os.kill(service.process.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            while any(alive(pid) for pid in there):
                await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait({call})


async def test_a_service_killed_in_the_middle_of_effects_does_none_of_them_twice(tmp_path: Path) -> None:
    workspace = tmp_path / "data" / "workspaces" / "t-" / "s-demo"
    append = "{\"code\": \"open('log', 'a').write('x'); import time; time.sleep(%s)\"}"
    async with Service(tmp_path) as service:
        finished = await execute(service.grpc, "python", append % 0, "run/1/0")
        harmless = await execute(service.grpc, "math", '{"expression": "6 * 7"}', "run/1/1")
        midway = asyncio.create_task(execute(service.grpc, "python", append % 60, "run/2/0"))
        async with asyncio.timeout(5):
            while (workspace / "log").stat().st_size < 2:
                await asyncio.sleep(0.01)
        service.process.kill()
        await service.process.wait()
        await asyncio.wait({midway})
        assert midway.exception() is not None
    async with Service(tmp_path) as service:
        again = await execute(service.grpc, "python", append % 0, "run/1/0")
        assert (finished.replayed, again.replayed) == (False, True)
        assert (again.verdict, again.artifacts) == (pb.VERDICT_OK, finished.artifacts)
        unknown = await execute(service.grpc, "python", append % 60, "run/2/0")
        assert (unknown.verdict, unknown.replayed) == (pb.VERDICT_OUTCOME_UNKNOWN, True)
        assert "not known" in unknown.error
        assert (workspace / "log").read_text() == "xx"
        # Nothing is promised of this one but the result: it may come from memory or be computed again.
        assert (await execute(service.grpc, "math", '{"expression": "6 * 7"}', "run/1/1")).output_json == (
            harmless.output_json
        )


def below(pid: int) -> list[int]:
    """All its descendants."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for child in children for one in (child, *below(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_killed_fork_server_is_counted_and_the_service_goes_on(tmp_path: Path) -> None:
    async with Service(tmp_path) as service:
        os.kill(fork_server_of(service.process.pid), signal.SIGKILL)
        async with asyncio.timeout(5):
            while "pagi_sandbox_fork_server_restarts_total 1.0" not in (await service.get("/metrics")).text:
                await asyncio.sleep(0.02)
        assert (await execute(service.grpc, "math", '{"expression": "1 + 1"}')).verdict == pb.VERDICT_OK
