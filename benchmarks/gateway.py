"""What the model gateway adds to a call (`make bench-gateway`): its roads against a bare gRPC echo, in one run.

Each road is a gateway process of its own with a loopback upstream that answers at once. Added p50 is the road's less
the echo's and less the upstream's own; CPU is the gateway process's, by the kernel's count, over the whole load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc

from benchmarks.gateway_upstream import PIECES

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_REQUEST = pb.GetPlanRequest(
    messages=[
        pb.Message(role=pb.ROLE_SYSTEM, text="You are a careful assistant. " * 40),
        pb.Message(role=pb.ROLE_USER, text="What is (100 + 50) * 2?"),
    ],
    tools=[
        pb.ToolSpec(
            name=f"tool_{number}",
            description="Does what its name says.",
            parameters_schema_json='{"type": "object", "properties": {"expression": {"type": "string"}}}',
        )
        for number in range(6)
    ],
)
_ROADS = {
    "mock": {"LLM_PROVIDER": "mock"},
    "openai": {"LLM_PROVIDER": "openai", "OPENAI_API_KEY": "k", "DEFAULT_MODEL": "gpt-x"},
    "anthropic": {"LLM_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": "k"},
}


@dataclass(frozen=True)
class Measured:
    """One road: milliseconds at one in flight, a second at 32, milliseconds of CPU a call, mebibytes."""

    p50_ms: float
    a_second: float
    cpu_ms: float
    first_ms: float
    cpu_ms_a_piece: float
    memory_mib: float
    grown_mib: float


class _Echo(gateway_pb2_grpc.ModelGatewayServicer):
    """Answers at once, and streams nothing but the end."""

    async def GetPlan(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetPlanResponse(text="It is 300. " * 10)

    async def StreamPlan(self, request: Any, context: Any) -> Any:  # noqa: N802
        yield pb.StreamPlanResponse(text_delta="word ")
        yield pb.StreamPlanResponse(response=pb.GetPlanResponse(text="word " * PIECES))

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ListModelsResponse()


async def _serve_echo() -> None:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    gateway_pb2_grpc.add_ModelGatewayServicer_to_server(_Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


async def _measured(port: int, pid: int, seconds: float, calls: int) -> Measured:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub = gateway_pb2_grpc.ModelGatewayStub(channel)
        await asyncio.wait_for(channel.channel_ready(), 30)
        await _until_ready(stub)
        await _flood(stub, 32, 0.5)
        took = sorted([await _timed(stub) for _ in range(calls)])
        count, cpu_ms, elapsed = await _counted(pid, lambda: _flood(stub, 32, seconds))
        grown = _memory_mib(pid)
        await _flood(stub, 32, seconds)
        grown = _memory_mib(pid) - grown
        firsts: list[float] = []
        streams, stream_cpu, _ = await _counted(pid, lambda: _stream(stub, seconds / 2, firsts))
        return Measured(
            statistics.median(took) * 1000,
            count / elapsed,
            cpu_ms / count,
            statistics.median(firsts) * 1000,
            stream_cpu / streams / PIECES,
            _memory_mib(pid),
            grown,
        )


async def _until_ready(stub: Any) -> None:
    for _ in range(100):
        try:
            await stub.GetPlan(_REQUEST, timeout=5)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
        else:
            return
    raise SystemExit("the gateway does not answer")


async def _timed(stub: Any) -> float:
    began = time.perf_counter()
    await stub.GetPlan(_REQUEST, timeout=10)
    return time.perf_counter() - began


async def _flood(stub: Any, workers: int, seconds: float) -> int:
    ends = time.perf_counter() + seconds
    done = 0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await stub.GetPlan(_REQUEST, timeout=10)
            done += 1

    await asyncio.gather(*(work() for _ in range(workers)))
    return done


async def _stream(stub: Any, seconds: float, firsts: list[float]) -> int:
    ends = time.perf_counter() + seconds
    done = 0
    while time.perf_counter() < ends:
        began, first = time.perf_counter(), 0.0
        async for _ in stub.StreamPlan(pb.StreamPlanRequest(plan=_REQUEST), timeout=10):
            first = first or time.perf_counter() - began
        firsts.append(first)
        done += 1
    return done


async def _counted(pid: int, load: Any) -> tuple[int, float, float]:
    """How many were done, the milliseconds of CPU that they took, and the seconds."""
    cpu, began = _cpu_s(pid), time.perf_counter()
    count = await load()
    return count, (_cpu_s(pid) - cpu) * 1000, time.perf_counter() - began


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def _memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def _child(stack: ExitStack, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    return process


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(json.loads(process.stdout.readline())["port"])


def _free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _run(seconds: float, calls: int) -> dict[str, Measured]:
    results: dict[str, Measured] = {}
    with ExitStack() as stack:
        echo = _child(stack, "-m", "benchmarks.gateway", "--echo")
        results["bare echo"] = uvloop.run(_measured(_port_of(echo), echo.pid, seconds, calls))
        upstream = f"http://127.0.0.1:{_port_of(_child(stack, '-m', 'benchmarks.gateway_upstream'))}/v1"
        for name, environment in _ROADS.items():
            port = _free_port()
            gateway = _child(
                stack,
                "-m",
                "pagi_gateway",
                **environment,
                MODEL_GATEWAY_GRPC_PORT=port,
                MODEL_GATEWAY_HTTP_PORT="0",
                OPENAI_BASE_URL=upstream,
                ANTHROPIC_BASE_URL=upstream,
                LOG_LEVEL="warning",
            )
            results[name] = uvloop.run(_measured(int(port), gateway.pid, seconds, calls))
            gateway.terminate()
            gateway.wait(10)
    return results


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--calls", type=int, default=500, help="one at a time, for the median")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.echo:
        uvloop.run(_serve_echo())
        return
    results = _run(asked.seconds, asked.calls)
    floor = results["bare echo"]
    print(
        "| road | p50 ms | added ms | CPU ms a call | calls/s at 32 | first piece ms | CPU ms a piece | MiB | grown |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, got in results.items():
        print(
            f"| {name} | {got.p50_ms:.2f} | {got.p50_ms - floor.p50_ms:.2f} | {got.cpu_ms:.2f} | {got.a_second:.0f}"
            f" | {got.first_ms:.2f} | {got.cpu_ms_a_piece:.4f} | {got.memory_mib:.0f} | {got.grown_mib:+.1f} |"
        )


if __name__ == "__main__":
    main()
