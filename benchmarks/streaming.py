"""Measures what the planner adds to a model's stream, against the gateway's own in the same run.

`make bench-streaming`, or `python -m benchmarks.streaming`. Two figures: the time to the first word, of a client of the
planner and of one of the gateway, in turns; and the processor time of the planner for each delta, which is that of a
streamed plan less that of a plain one with the same answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grpc
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from benchmarks import ROOT
from benchmarks.children import BenchError, Child, Children, free_ports, wait_until
from benchmarks.mesh import Mesh, start_mesh
from benchmarks.rows import met
from benchmarks.usage import cpu_s

MOST_CPU_MS = 0.15
MOST_FIRST_MS = 1.0
MOST_WHOLE_MS = 3.0
_PIECE_BYTES = 65_536


@dataclass(frozen=True)
class Times:
    """Of one streamed plan, in seconds.

    Attributes:
        asked_s: Until the client saw that the model is asked.
        first_s: Until it saw the first word.
        deltas: Events with text.
    """

    asked_s: float
    first_s: float
    deltas: int


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--words", type=int, default=2_000, help="of the long answer")
    parser.add_argument("--rounds", type=int, default=40, help="of the short ones")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="pagi-bench-") as folder:
            _run(Path(folder), asked.words, asked.rounds)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


def _run(folder: Path, words: int, rounds: int) -> None:
    long = "".join(f"word{number} " for number in range(words))
    script = [{"when": "long", "text": long, "word_delay_ms": 1}, {"text": "Two words."}]
    (folder / "script.json").write_text(json.dumps(script), encoding="utf-8")
    variables = {"LLM_PROVIDER": "scripted", "SCRIPTED_RESPONSES_PATH": str(folder / "script.json")}
    with Children(folder) as children:
        mesh = start_mesh(children, folder, variables=variables)
        (relay_port,) = free_ports(1)
        command = (sys.executable, "-m", "benchmarks.streaming_relay", str(mesh.gateway_port), str(relay_port))
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        relay = children.start("relay", command, {"PYTHONPATH": paths})
        if not wait_until(lambda: _listens(relay_port), timeout_s=20.0, interval_s=0.05):
            raise relay.fault("did not listen")
        _first_words(mesh, rounds)
        _deltas(mesh, relay, relay_port)


def _first_words(mesh: Mesh, rounds: int) -> None:
    asyncio.run(_first_of_gateway(mesh.gateway_port, 20))
    for _ in range(20):
        _streamed(mesh.port, "short")
    own, plans = [], []
    for _ in range(rounds):
        own.append(asyncio.run(_first_of_gateway(mesh.gateway_port, 1)))
        plans.append(_streamed(mesh.port, "short"))
    own_ms = median(own) * 1e3
    whole_ms = median(each.first_s for each in plans) * 1e3
    since_asked_ms = median(each.first_s - each.asked_s for each in plans) * 1e3
    added_ms = since_asked_ms - own_ms
    print(f"first word, gateway alone                     {own_ms:7.2f} ms")
    print(f"first word, planner, since the model is asked {since_asked_ms:7.2f} ms")
    share = f"{added_ms:7.2f} ms {met(added_ms < MOST_FIRST_MS)}"
    print(f"  the planner's share (under {MOST_FIRST_MS:g})                {share}")
    print(f"first word, planner, since the request        {whole_ms:7.2f} ms")
    print(f"  more than the gateway's own (under {MOST_WHOLE_MS:g})        {whole_ms - own_ms:7.2f} ms "
          f"{met(whole_ms - own_ms < MOST_WHOLE_MS)}")  # fmt: skip


def _deltas(mesh: Mesh, relay: Child, relay_port: int) -> None:
    planner = next(child for child in mesh.children if child.name == "agent-planner")
    gateway = next(child for child in mesh.children if child.name == "model-gateway")
    watched = [planner, gateway, relay]
    used = {"plain": 0.0, "planner": 0.0, "relay": 0.0, "gateway": 0.0}
    deltas = relayed = 0
    for _ in range(2):
        before = cpu_s(watched)
        _answered(mesh.port, "long")
        between = cpu_s(watched)
        deltas += _streamed(mesh.port, "long").deltas
        after = cpu_s(watched)
        relayed += _streamed(relay_port, "long").deltas
        used["plain"] += between[planner.name] - before[planner.name]
        used["planner"] += after[planner.name] - between[planner.name]
        used["gateway"] += after[gateway.name] - between[gateway.name]
        used["relay"] += cpu_s(watched)[relay.name] - after[relay.name]
    cost_ms = (used["planner"] - used["plain"]) / deltas * 1e3
    floor_ms = used["relay"] / relayed * 1e3
    print(f"deltas seen                                   {deltas:7d}")
    print(f"processor time a delta, gateway               {used['gateway'] / deltas * 1e3:7.3f} ms")
    print(f"processor time a delta, a bare relay          {floor_ms:7.3f} ms")
    print(f"processor time a delta, planner (under {MOST_CPU_MS})  {cost_ms:7.3f} ms {met(cost_ms < MOST_CPU_MS)}")
    print(f"  over the bare relay                         {cost_ms / floor_ms:7.2f} times")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def _first_of_gateway(port: int, calls: int) -> float:
    """Seconds to the first word over a connection that stands, the last of some calls."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = gateway_pb2_grpc.ModelGatewayStub(channel)
        took = 0.0
        for _ in range(calls + 1):
            message = gateway_pb2.Message(role=gateway_pb2.ROLE_USER, text="short")
            plan = gateway_pb2.GetPlanRequest(messages=[message], effect_id=f"bench/{uuid.uuid4().hex}/model")
            began = time.perf_counter()
            call = stub.StreamPlan(gateway_pb2.StreamPlanRequest(plan=plan))
            await call.read()
            took = time.perf_counter() - began
            while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                pass
    return took


def _streamed(port: int, prompt: str) -> Times:
    """Streams a plan over a connection that stands."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        began = time.perf_counter()
        client.sendall(_request(prompt, "text/event-stream"))
        asked = first = 0.0
        deltas = 0
        for when, event in _events(client):
            if event == b"PLAN_MODEL_REQUEST":
                asked = when
            elif event == b"text":
                first = first or when
                deltas += 1
            elif event == b"end":
                break
        return Times(asked - began, first - began, deltas)


def _answered(port: int, prompt: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(_request(prompt, "application/json"))
        while client.recv(_PIECE_BYTES):
            pass


def _request(prompt: str, accept: str) -> bytes:
    body = json.dumps({"prompt": prompt, "limits": {"timeout_s": 60}}).encode()
    head = f"POST /plan HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAccept: {accept}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _events(client: socket.socket) -> Iterator[tuple[float, bytes]]:
    """The name of each event, with the time at which it came."""
    rest = b""
    while piece := client.recv(_PIECE_BYTES):
        when = time.perf_counter()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"event: "):
                yield when, line[7:]


if __name__ == "__main__":
    sys.exit(main())
