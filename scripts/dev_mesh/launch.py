"""From the command line's wishes to a running mesh: lock, addresses, ports, certificates, services, the last word."""

from __future__ import annotations

import queue
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev_mesh.console import Console
from dev_mesh.environment import Environment, load_environment
from dev_mesh.errors import MeshError
from dev_mesh.mesh import Mesh
from dev_mesh.ports import complaint, is_free
from dev_mesh.probes import RedisProbe
from dev_mesh.processes import end
from dev_mesh.services import ServiceSpec, core_services, valkey_service
from dev_mesh.slips import slips_in
from dev_mesh.state import MeshLock, StateFile, harness_of, leftovers_of
from dev_mesh.valkey import redis_address

_CLEANING_UP_S = 15.0

Plan = Callable[[Path, Environment, Console], list[ServiceSpec]]


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        root: The checkout.
        mtls: Whether the services speak mutual TLS with the certificates under `tls_certs/`.
        ready_timeout_s: How long the first start may take.
    """

    root: Path
    mtls: bool = False
    ready_timeout_s: float = 60.0


def run(options: Options, console: Console, signals: queue.SimpleQueue[int], plan: Plan | None = None) -> int:
    """Runs the mesh until a signal comes; returns the exit status.

    Args:
        options: What was asked for.
        console: Where people read.
        signals: Where signals to stop arrive.
        plan: Says what to run; the core profile unless a test brings its own.

    Raises:
        MeshError: It cannot start.
    """
    environment = load_environment(options.root)
    for slip in slips_in(options.root):
        console.warn(slip)
    lock, state = lock_and_state(options.root)
    take_lock(lock, state)
    end(leftovers_of(state.read()), grace_s=5.0)
    begun = time.monotonic()
    specs = (plan or plan_core)(options.root, environment, console)
    check_ports(specs)
    if options.mtls:
        environment.override(certificates(options.root, console))
    console.say(f"Starting {', '.join(spec.name for spec in specs)}")
    mesh = Mesh(specs, environment.for_process(), options.root, lock, state, console, signals)
    try:
        if mesh.start(options.ready_timeout_s):
            console.say(banner(specs, environment, time.monotonic() - begun, mtls=options.mtls))
            mesh.watch()
        console.say("Stopping")
    finally:
        mesh.stop()
        lock.release()
    console.say("Everything is stopped")
    return 0


def lock_and_state(root: Path) -> tuple[MeshLock, StateFile]:
    """The two files by which harnesses of one checkout know each other."""
    folder = root / "data" / "run"
    return MeshLock(folder / "mesh.lock"), StateFile(folder / "mesh.json")


def take_lock(lock: MeshLock, state: StateFile) -> None:
    """Makes this harness the only one; waits for the guard of one that was killed.

    Raises:
        MeshError: Another one runs.
    """
    deadline = time.monotonic() + _CLEANING_UP_S
    while not lock.acquire():
        if harness := harness_of(state.read()):
            raise MeshError(
                f"The mesh runs already in this checkout (pid {harness.pid})."
                " `make status-dev` shows it, `make stop-dev` stops it."
            )
        if time.monotonic() > deadline:
            raise MeshError("Another start of the mesh in this checkout is under way; try again when it is done.")
        time.sleep(0.05)


def plan_core(root: Path, environment: Environment, console: Console) -> list[ServiceSpec]:
    """What is to be started; Valkey only where no server answers at `REDIS_ADDR`.

    Raises:
        MeshError: A variable is wrong, or a Redis elsewhere does not answer.
    """
    specs = core_services(root, environment)
    address = redis_address(environment)
    if RedisProbe(address.host, address.port)():
        console.say(f"Using the Redis that runs at {address.host}:{address.port} (REDIS_ADDR)")
    elif address.is_local:
        specs.insert(0, valkey_service(root, address))
    else:
        raise MeshError(
            f"REDIS_ADDR names {address.host}:{address.port}, where no Redis answers, and Valkey can be started on"
            " this machine only. Unset REDIS_ADDR, or start that server."
        )
    return specs


def check_ports(specs: Sequence[ServiceSpec]) -> None:
    """Makes sure that every port can be listened on.

    Raises:
        MeshError: Some cannot, or two services share one.
    """
    faults = []
    users: dict[int, str] = {}
    for spec in specs:
        for port in spec.ports:
            if other := users.get(port.number):
                faults.append(f"Port {port.number} is given to both {other} and {spec.name} ({port.variable})")
            elif not is_free(port.number):
                faults.append(complaint(spec.name, port))
            users[port.number] = spec.name
    if faults:
        raise MeshError("\n".join(faults))


def certificates(root: Path, console: Console) -> dict[str, str]:
    """The `TLS_*` variables for the certificates under `tls_certs/`, which are made where they are missing.

    Raises:
        MeshError: They cannot be made.
    """
    done = subprocess.run(
        ["bash", str(root / "scripts" / "gen_certs.sh")], capture_output=True, text=True, check=False, cwd=root
    )
    if done.returncode:
        raise MeshError(f"Certificates for mutual TLS cannot be made: {done.stderr.strip()}")
    console.say(done.stdout.strip())
    folder = root / "tls_certs"
    return {
        "TLS_CA_CERT_PATH": str(folder / "ca.crt"),
        "TLS_SERVER_CERT_PATH": str(folder / "server.crt"),
        "TLS_SERVER_KEY_PATH": str(folder / "server.key"),
        "TLS_CLIENT_CERT_PATH": str(folder / "client.crt"),
        "TLS_CLIENT_KEY_PATH": str(folder / "client.key"),
    }


def banner(specs: Sequence[ServiceSpec], environment: Environment, seconds: float, *, mtls: bool) -> str:
    """What a person reads when all is ready: where it listens and what to try."""
    width = max(len(spec.name) for spec in specs)
    rows = [f"  {spec.name:<{width}}  {_addresses(spec)}" for spec in reversed(specs)]
    entry = specs[-1]
    key = '-H "X-API-Key: $PAGI_API_KEY" ' if environment.get("PAGI_API_KEY") else ""
    return "\n".join(
        [
            "",
            f"The mesh is ready after {seconds:.1f} s" + (", with mutual TLS between the services." if mtls else "."),
            "",
            *rows,
            "",
            "Try:",
            f"  curl -X POST localhost:{entry.ports[0].number}/plan -H 'Content-Type: application/json' {key}\\",
            """    -d '{"prompt":"What is (100 + 50) * 2?","session_id":"demo"}'""",
            "",
            "Logs: data/logs/<service>.log   Status: make status-dev   Stop: Ctrl-C, or make stop-dev",
            "",
        ]
    )


def _addresses(spec: ServiceSpec) -> str:
    host = spec.probe.host
    forms = {"HTTP": "http://{}:{}", "gRPC": "gRPC {}:{}", "Redis": "redis://{}:{}"}
    return "   ".join(forms[port.purpose].format(host, port.number) for port in spec.ports)


def catch_signals(signals: queue.SimpleQueue[int]) -> None:
    """Turns the signals to stop into entries of the queue, whose `put` may be called in a handler."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: signals.put(received))
