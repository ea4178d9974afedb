"""What the mesh is made of: each service's command, ports and question for readiness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dev_mesh.environment import Environment
from dev_mesh.ports import Port
from dev_mesh.probes import HttpProbe, Probe, RedisProbe
from dev_mesh.valkey import RedisAddress, valkey_binary, valkey_command

PROFILES = ("core",)


@dataclass(frozen=True)
class ServiceSpec:
    """One process of the mesh.

    Attributes:
        name: The folder under `services/`, or `valkey`.
        command: The program and its arguments.
        ports: What it listens on; the first is the one that people are shown.
        probe: Says whether it is ready.
        tier: Higher ones use lower ones, and are stopped before them.
        quiet: Its lines go to its log file only.
    """

    name: str
    command: tuple[str, ...]
    ports: tuple[Port, ...]
    probe: Probe
    tier: int = 1
    quiet: bool = False


@dataclass(frozen=True)
class _Declared:
    name: str
    module: str
    http: tuple[tuple[str, ...], int]
    grpc: tuple[tuple[str, ...], int] | None
    addresses: tuple[str, ...] = ()
    tier: int = 1


# The ports are those of docs and settings; the first variable is the one to tell people of.
_CORE = (
    _Declared("memory", "pagi_memory", (("MEMORY_PORT",), 8003), (("MEMORY_GRPC_PORT",), 50052), ("MEMORY_GRPC_ADDR",)),
    _Declared(
        "sandbox",
        "pagi_sandbox",
        (("SANDBOX_PORT", "RUST_SANDBOX_PORT"), 8001),
        (("SANDBOX_GRPC_PORT", "RUST_SANDBOX_GRPC_PORT"), 50053),
        ("SANDBOX_GRPC_ADDR", "RUST_SANDBOX_GRPC_ADDR"),
    ),
    _Declared(
        "model-gateway",
        "pagi_gateway",
        (("MODEL_GATEWAY_HTTP_PORT",), 8005),
        (("MODEL_GATEWAY_GRPC_PORT",), 50051),
        ("MODEL_GATEWAY_ADDR",),
    ),
    _Declared("notification-subscriber", "pagi_notifier", (("NOTIFICATION_SUBSCRIBER_PORT",), 8006), None),
    _Declared(
        "agent-planner",
        "pagi_planner",
        (("AGENT_PLANNER_PORT",), 8585),
        (("AGENT_PLANNER_GRPC_PORT",), 50050),
        tier=2,
    ),
)


def core_services(root: Path, environment: Environment) -> list[ServiceSpec]:
    """The five services; tells them of each other where a port was moved and an address was not.

    Raises:
        MeshError: A port variable holds no port.
    """
    bind = environment.get("PAGI_BIND_HOST", default="127.0.0.1")
    host = "127.0.0.1" if bind in {"0.0.0.0", "::", ""} else bind
    return [_service(declared, root, host, environment) for declared in _CORE]


def _service(declared: _Declared, root: Path, host: str, environment: Environment) -> ServiceSpec:
    variables, default = declared.http
    http = Port("HTTP", variables[0], environment.port(*variables, default=default))
    ports = [http]
    if declared.grpc:
        variables, default = declared.grpc
        ports.append(Port("gRPC", variables[0], environment.port(*variables, default=default)))
        # Nobody of the mesh calls the planner.
        if declared.addresses:
            environment.derive(declared.addresses, f"{host}:{ports[-1].number}")
    return ServiceSpec(
        name=declared.name,
        command=(str(root / ".venv" / "bin" / "python"), "-m", declared.module),
        ports=tuple(ports),
        probe=HttpProbe(host, http.number),
        tier=declared.tier,
    )


def valkey_service(root: Path, address: RedisAddress) -> ServiceSpec:
    """Valkey under our own supervision, its data under `data/valkey`.

    Raises:
        MeshError: There is no binary for this machine.
    """
    data = root / "data" / "valkey"
    data.mkdir(parents=True, exist_ok=True)
    return ServiceSpec(
        name="valkey",
        command=valkey_command(valkey_binary(root / ".venv"), address, data),
        ports=(Port("Redis", "REDIS_ADDR=127.0.0.1:<port>", address.port),),
        probe=RedisProbe("127.0.0.1" if address.host == "localhost" else address.host, address.port),
        tier=0,
        quiet=True,  # twenty lines of greeting and good-bye that help nobody
    )
