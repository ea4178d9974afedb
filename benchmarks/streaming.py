"""What the planner adds to a model's stream, against the gateway's own and a bare relay of it in the same run.

The time to the first word, of a client of the planner and of one of the gateway, in turns; and the processor time of
the planner for each delta, which is that of a streamed plan less that of a plain one with the same answer. The relay,
`streaming_relay`, is a process that hands the gateway's deltas on to a socket and does nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from benchmarks import ROOT
from benchmarks.children import Child, Children, free_ports, wait_until
from benchmarks.mesh import Mesh, start_mesh
from benchmarks.ratios import Pairs
from benchmarks.rows import Part, Row, met, say
from benchmarks.script import scripted
from benchmarks.usage import cpu_s

_MOST_CPU_MS = 0.15
_MOST_FIRST_MS = 1.0
_MOST_WHOLE_MS = 3.0
_WARM_UP = 20
_PIECE_BYTES = 65_536

Acted = TypeVar("Acted")


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


def stream_rows(folder: Path, quick: bool) -> Part:
    """Measures streams.

    Raises:
        BenchError: A process did not start.
    """
    say("streams")
    with Children(folder) as children:
        mesh = start_mesh(children, folder / "mesh", variables=scripted(folder, words=500 if quick else 2_000))
        first = _first_words(mesh, 20 if quick else 60)
        relay, relay_port = _start_relay(children, mesh)
        delta = _deltas(mesh, relay, relay_port, 1 if quick else 3)
    return Part(list(_rows(*first, delta)))


def _rows(since_asked: Pairs, whole: Pairs, delta: Pairs) -> Iterator[Row]:
    first = "first word, to the gateway's own"
    for text, pairs, most in ((", since the model is asked", since_asked, _MOST_FIRST_MS), ("", whole, _MOST_WHOLE_MS)):
        aim = f"{met(pairs.more < most)} {pairs.more:.2f} ms more, < {most:g} ms"
        yield Row(f"{first}{text}: p50", "ms", *pairs.medians, pairs.ratio, aim=aim)
    aim = f"{met(delta.medians[1] < _MOST_CPU_MS)} < {_MOST_CPU_MS:g} ms"
    yield Row("processor time a delta, planner to a bare relay", "ms", *delta.medians, delta.ratio, aim=aim)


def _start_relay(children: Children, mesh: Mesh) -> tuple[Child, int]:
    (port,) = free_ports(1)
    command = (sys.executable, "-m", "benchmarks.streaming_relay", str(mesh.gateway_port), str(port))
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    relay = children.start("relay", command, {"PYTHONPATH": paths})
    if not wait_until(lambda: _listens(port), timeout_s=20.0, interval_s=0.05):
        raise relay.fault("did not listen")
    return relay, port


def _first_words(mesh: Mesh, rounds: int) -> tuple[Pairs, Pairs]:
    """Milliseconds beside the gateway's own: since the client saw that the model is asked, and since the request."""
    asyncio.run(_first_of_gateway(mesh.gateway_port, _WARM_UP))
    for _ in range(_WARM_UP):
        _streamed(mesh.port, "short")
    own, since_asked, whole = [], [], []
    for _ in range(rounds):
        own.append(asyncio.run(_first_of_gateway(mesh.gateway_port, 1)) * 1e3)
        times = _streamed(mesh.port, "short")
        since_asked.append((times.first_s - times.asked_s) * 1e3)
        whole.append(times.first_s * 1e3)
    return Pairs(own, since_asked), Pairs(own, whole)


def _deltas(mesh: Mesh, relay: Child, relay_port: int, rounds: int) -> Pairs:
    """Milliseconds of processor time for each delta, of the relay and of the planner."""
    planner = next(child for child in mesh.children if child.name == "agent-planner")
    pairs = Pairs()
    for _ in range(rounds):
        _, plain_s = _charged(planner, lambda: _answered(mesh.port, "long"))
        streamed, streamed_s = _charged(planner, lambda: _streamed(mesh.port, "long").deltas)
        relayed, relayed_s = _charged(relay, lambda: _streamed(relay_port, "long").deltas)
        pairs.ours.append((streamed_s - plain_s) / streamed * 1e3)
        pairs.base.append(relayed_s / relayed * 1e3)
    return pairs


def _charged(child: Child, act: Callable[[], Acted]) -> tuple[Acted, float]:
    """What came of it, and the processor seconds that the process used meanwhile."""
    before = cpu_s([child])[child.name]
    acted = act()
    return acted, cpu_s([child])[child.name] - before


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
