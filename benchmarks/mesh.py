"""The mesh under test: the five services and Valkey, started as the harness does, in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev_mesh.environment import Environment
from dev_mesh.probes import HttpProbe, RedisProbe
from dev_mesh.services import core_services
from dev_mesh.valkey import RedisAddress, valkey_binary, valkey_command

from benchmarks import ROOT
from benchmarks.children import BenchError, Child, Children, free_ports, wait_until

_READY_S = 60.0
# Fine enough for a figure in seconds, and too seldom to take time from those who start.
_PROBE_INTERVAL_S = 0.02
_PORTS = (
    "AGENT_PLANNER_PORT",
    "AGENT_PLANNER_GRPC_PORT",
    "MODEL_GATEWAY_HTTP_PORT",
    "MODEL_GATEWAY_GRPC_PORT",
    "MEMORY_PORT",
    "MEMORY_GRPC_PORT",
    "SANDBOX_PORT",
    "SANDBOX_GRPC_PORT",
    "NOTIFICATION_SUBSCRIBER_PORT",
)


class Mesh:
    """A running mesh.

    Attributes:
        port: Of the agent-planner's HTTP.
        gateway_port: Of the model-gateway's gRPC.
        children: Its processes; what they start themselves is found below them.
        ready_after_s: From the start of the first process until every service said that it is ready.
    """

    def __init__(self, port: int, gateway_port: int, children: Sequence[Child], ready_after_s: float) -> None:
        self.port = port
        self.gateway_port = gateway_port
        self.children = children
        self.ready_after_s = ready_after_s

    def stop(self, children: Children) -> None:
        """Ends its processes; the data stay."""
        children.end([child.process for child in self.children])


def start_mesh(
    children: Children, data: Path, *, otlp_endpoint: str = "", variables: Mapping[str, str] | None = None
) -> Mesh:
    """Starts a mesh on free ports and waits until it is ready.

    Args:
        children: Starts the processes.
        data: Folder of every database; one that was used before makes this a second start.
        otlp_endpoint: Where spans go; empty: tracing is off.
        variables: More of the environment.

    Raises:
        BenchError: A service ended, or was not ready within a minute.
    """
    redis_port, *ports = free_ports(len(_PORTS) + 1)
    variables = {**(variables or {}), **{name: str(port) for name, port in zip(_PORTS, ports, strict=True)}}
    variables |= _places(data) | {"REDIS_ADDR": f"127.0.0.1:{redis_port}"}
    if otlp_endpoint:
        # The SDK waits 5 s before it sends; sooner, so that the work of sending falls into the time that is measured.
        variables |= {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp_endpoint, "OTEL_BSP_SCHEDULE_DELAY": "500"}
    environment = Environment(variables)
    specs = core_services(ROOT, environment)
    (data / "valkey").mkdir(parents=True, exist_ok=True)
    valkey = valkey_command(valkey_binary(ROOT / ".venv"), RedisAddress("127.0.0.1", redis_port), data / "valkey")

    began = time.perf_counter()
    started = [children.start("valkey", valkey)]
    started += [children.start(spec.name, spec.command, environment.for_process()) for spec in specs]
    waiting: list[tuple[Child, HttpProbe | RedisProbe]] = [(started[0], RedisProbe("127.0.0.1", redis_port))]
    waiting += [(child, spec.probe) for child, spec in zip(started[1:], specs, strict=True)]

    def all_ready() -> bool:
        while waiting:
            child, probe = waiting[0]
            child.check()
            if not probe():
                return False
            waiting.pop(0)
        return True

    if not wait_until(all_ready, timeout_s=_READY_S, interval_s=_PROBE_INTERVAL_S):
        raise waiting[0][0].fault(f"was not ready within {_READY_S:g} s")
    return Mesh(ports[0], ports[_PORTS.index("MODEL_GATEWAY_GRPC_PORT")], started, time.perf_counter() - began)


def _places(data: Path) -> dict[str, str]:
    """Everything below one folder; no `.env` is read, since none is in the working directory."""
    if not (knowledge := ROOT / "knowledge_bases").is_dir():
        raise BenchError(f"{knowledge} is not there")
    return {
        "KNOWLEDGE_BASES_DIR": str(knowledge),
        "PAGI_AUDIT_DB_PATH": str(data / "pagi_audit.db"),
        "HEART_DB_PATH": str(data / "heart.db"),
        "MEMORY_DB_PATH": str(data / "memory.db"),
        "CHROMA_PATH": str(data / "chroma"),
        "SANDBOX_DB_PATH": str(data / "sandbox.db"),
        "SANDBOX_WORKSPACES_DIR": str(data / "workspaces"),
    }
