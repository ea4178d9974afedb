"""A sandbox under test, alone: a service process on free ports, spoken to over gRPC."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from dev_mesh.processes import children as children_of
from dev_mesh.processes import command_line
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc

from benchmarks.children import BenchError, Child, Children, free_ports

_READY_S = 60.0
_CALL_S = 30.0
# A proxy in the environment would take loopback calls; and gRPC's own pause after a refused connection is a second.
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", 100))


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox.

    Attributes:
        profile: That it reached, L0 to L3.
        child: The service's process.
        stub: Of its gRPC.
    """

    profile: str
    child: Child
    stub: Any

    @property
    def fork_server(self) -> int:
        """The number of the process that every isolated call is forked from."""
        return next(pid for pid in children_of(self.child.pid) if "pagi_sandbox.zygote" in command_line(pid))

    async def call(
        self, tool: str, arguments: dict[str, str], *, session: str = "bench", expected: int = 0, timeout_ms: int = 0
    ) -> float:
        """Milliseconds that a call took.

        Raises:
            BenchError: It did not end as expected; 0 stands for well.
        """
        request = sandbox_pb2.ExecuteToolRequest(tool=tool, arguments_json=json.dumps(arguments), session_id=session)
        if timeout_ms:
            request.limits.timeout_ms = timeout_ms
        began = time.perf_counter()
        response = await self.stub.ExecuteTool(request, timeout=_CALL_S)
        took = (time.perf_counter() - began) * 1000
        if response.verdict != (expected or sandbox_pb2.VERDICT_OK):
            raise BenchError(f"{tool} in {self.profile}: {response}")
        return took


async def start_sandbox(
    children: Children, folder: Path, name: str, *, profile: str = "auto", preload: str = ""
) -> Sandbox:
    """Starts a sandbox and waits until it answers.

    Args:
        children: Starts the process.
        folder: The one that the processes run in.
        name: Of its log and of its files.
        profile: The highest that it may take.
        preload: See SANDBOX_PRELOAD.

    Raises:
        BenchError: It ended, or did not answer within a minute.
    """
    # Tools may run as users of their own, who pass through it to their workspaces.
    folder.chmod(0o711)
    http_port, port = free_ports(2)
    data = folder / name
    variables = {
        "SANDBOX_PORT": str(http_port),
        "SANDBOX_GRPC_PORT": str(port),
        "SANDBOX_PROFILE": profile,
        "SANDBOX_PRELOAD": preload,
        "SANDBOX_WORKSPACES_DIR": str(data / "workspaces"),
        "SANDBOX_DB_PATH": str(data / "sandbox.db"),
        "SANDBOX_LEDGER_PATH": str(data / "effects.db"),
        "LOG_LEVEL": "warning",
    }
    child = children.start(name, [sys.executable, "-m", "pagi_sandbox"], variables)
    stub = stub_at(port)
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            isolation = await stub.GetIsolation(sandbox_pb2.GetIsolationRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            child.check()
            if time.monotonic() > deadline:
                raise child.fault(f"did not answer within {_READY_S:g} s") from error
            await asyncio.sleep(0.05)
        else:
            return Sandbox(isolation.profile, child, stub)


def stub_at(port: int) -> Any:
    """What speaks to the tools behind a port; its connection ends with it."""
    return sandbox_pb2_grpc.ToolServiceStub(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS))
