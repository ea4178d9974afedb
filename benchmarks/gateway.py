"""What the model gateway adds to a call (`make bench-gateway`): its roads against a bare gRPC echo, in one run.

Each road is a gateway process of its own with a loopback upstream that answers at once. Added p50 is the road's less
the echo's; CPU is the gateway process's, by the kernel's count, over the whole load. "Grown" is what it holds after
10,000 calls less what it held after 1,000. `routed` is models.yaml with OpenAI and Anthropic, the load shared by
weight; `library` is Bedrock by Pydantic AI and boto3.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import uvloop
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc

from benchmarks import ROOT
from benchmarks.gateway_import import import_ms
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
    "routed": {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "MODELS_PATH": "routed.yaml"},
    "library": {"LLM_PROVIDER": "bedrock", "AWS_REGION": "us-east-1", "DEFAULT_MODEL": "m"},
}
_MODELS = """\
targets:
  gpt: {provider: openai, model: gpt-x}
  claude: {provider: anthropic, model: claude-x}
aliases:
  default: [{target: gpt, order: 1, weight: 3}, {target: claude, order: 1}]
"""
# Its answers are not streamed here: the upstream does not speak its binary stream.
_WHOLE_ONLY = {"library"}


@dataclass(frozen=True)
class Measured:
    """One road: milliseconds at one in flight, a second at 32, milliseconds of CPU a call, mebibytes."""

    p50_ms: float
    a_second: float
    cpu_ms: float
    first_ms: float
    cpu_ms_a_piece: float
    idle_mib: float
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


async def _measured(port: int, pid: int, asked: argparse.Namespace, *, streams: bool = True) -> Measured:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub = gateway_pb2_grpc.ModelGatewayStub(channel)
        async with asyncio.timeout(30):
            while channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
                await asyncio.sleep(0.02)
        idle = _memory_mib(pid)
        await _until_ready(stub)
        await _flood(stub, 32, asked.memory_calls // 10)
        early = _memory_mib(pid)
        took = sorted([await _timed(stub) for _ in range(asked.calls)])
        count, cpu_ms, elapsed = await _counted(pid, lambda: _flood(stub, 32, asked.memory_calls - asked.calls))
        grown = _memory_mib(pid) - early
        firsts: list[float] = []
        streamed, stream_cpu = 1, math.nan
        if streams:
            streamed, stream_cpu, _ = await _counted(pid, lambda: _stream(stub, asked.seconds, firsts))
        return Measured(
            statistics.median(took) * 1000,
            count / elapsed,
            cpu_ms / count,
            statistics.median(firsts) * 1000 if firsts else math.nan,
            stream_cpu / streamed / PIECES,
            idle,
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


async def _flood(stub: Any, workers: int, calls: int) -> int:
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await stub.GetPlan(_REQUEST, timeout=30)

    await asyncio.gather(*(work() for _ in range(workers)))
    return calls


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


def _child(stack: ExitStack, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
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


def _run(asked: argparse.Namespace) -> dict[str, Measured]:
    results: dict[str, Measured] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        (folder / "routed.yaml").write_text(_MODELS, encoding="utf-8")
        echo = _child(stack, "-m", "benchmarks.gateway", "--echo")
        results["bare echo"] = uvloop.run(_measured(_port_of(echo), echo.pid, asked))
        upstream = f"http://127.0.0.1:{_port_of(_child(stack, '-m', 'benchmarks.gateway_upstream'))}"
        for name, environment in _ROADS.items():
            if asked.road and name not in asked.road:
                continue
            port = _free_port()
            gateway = _child(
                stack,
                "-m",
                "pagi_gateway",
                cwd=folder,
                **environment,
                MODEL_GATEWAY_GRPC_PORT=port,
                MODEL_GATEWAY_HTTP_PORT="0",
                OPENAI_BASE_URL=f"{upstream}/v1",
                ANTHROPIC_BASE_URL=f"{upstream}/v1",
                BEDROCK_BASE_URL=upstream,
                AWS_ACCESS_KEY_ID="k",
                AWS_SECRET_ACCESS_KEY="k",
                LOG_LEVEL="warning",
            )
            results[name] = uvloop.run(_measured(int(port), gateway.pid, asked, streams=name not in _WHOLE_ONLY))
            gateway.terminate()
            gateway.wait(10)
    return results


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of streams")
    parser.add_argument("--calls", type=int, default=500, help="one at a time, for the median")
    parser.add_argument("--memory-calls", type=int, default=10_000, help="in all; a tenth of them come first")
    parser.add_argument("--road", action="append", choices=_ROADS, help="only this one; may be repeated")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.echo:
        uvloop.run(_serve_echo())
        return
    results = _run(asked)
    _print_roads(results)
    _print_aims(results)


def _print_roads(results: dict[str, Measured]) -> None:
    floor = results["bare echo"]
    print(
        "| road | p50 ms | of the echo | added ms | CPU ms a call | calls/s at 32 | first piece ms | CPU ms a piece"
        " | idle MiB | MiB | grown |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, got in results.items():
        print(
            f"| {name} | {got.p50_ms:.2f} | {got.p50_ms / floor.p50_ms:.1f} | {got.p50_ms - floor.p50_ms:.2f}"
            f" | {got.cpu_ms:.2f} | {got.a_second:.0f} | {got.first_ms:.2f} | {got.cpu_ms_a_piece:.4f}"
            f" | {got.idle_mib:.0f} | {got.memory_mib:.0f} | {got.grown_mib:+.1f} |".replace("nan", "")
        )


def _print_aims(results: dict[str, Measured]) -> None:
    """Whether what is promised holds, in the worst of the roads that it is promised of."""
    floor = results["bare echo"]
    hot = [results[name] for name in ("openai", "anthropic", "routed") if name in results]
    aims: list[tuple[str, float, float, str]] = [("import, ms of CPU", import_ms(), 300, "<")]
    if hot:
        aims += [
            ("p50 added, ms", max(got.p50_ms for got in hot) - floor.p50_ms, 1, "<"),
            ("CPU a call, ms", max(got.cpu_ms for got in hot), 1, "<"),
            ("calls a second at 32", min(got.a_second for got in hot), 1500, ">"),
            ("first piece added, ms", max(got.first_ms for got in hot) - floor.first_ms, 2, "<"),
            ("CPU a piece, ms", max(got.cpu_ms_a_piece for got in hot), 0.15, "<"),
            ("grown from 1,000 to 10,000 calls, MiB", max(got.grown_mib for got in hot), 5, "<"),
        ]
    if "routed" in results:
        aims.append(("idle with OpenAI and Anthropic, MB", results["routed"].idle_mib * 1.048576, 80, "<"))
    if "library" in results:
        aims.append(("p50 added by the library, ms", results["library"].p50_ms - floor.p50_ms, 3, "<"))
    print("\n| aim | seen | |\n|---|---|---|")
    for what, seen, limit, sign in aims:
        held = seen < limit if sign == "<" else seen > limit
        print(f"| {what} {sign} {limit:g} | {seen:.3g} | {'✓' if held else '✗'} |")


if __name__ == "__main__":
    main()
