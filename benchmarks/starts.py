"""How long a start takes, and what the mesh holds when it is idle; nothing else of the bench runs meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import Children
from benchmarks.floor import Floor, start_floor
from benchmarks.load import LoadGenerator, Order
from benchmarks.mesh import Mesh, start_mesh
from benchmarks.plans import BEHIND_S
from benchmarks.rounds import Target
from benchmarks.rows import Part, Row, met, say
from benchmarks.script import scripted
from benchmarks.usage import cpu_s, pss_mib

_READY_S = 5.0
_IDLE_MIB = 600
_PLANS = 200


@dataclass(frozen=True)
class Start:
    """One start of everything: seconds until ready, and processor seconds that it took."""

    ready_s: float
    cpu_s: float


def start_rows(folder: Path, _quick: bool) -> Part:
    """Starts the floor, the mesh with nothing ingested, and the mesh again.

    Raises:
        BenchError: Something did not start, or a plan failed.
    """
    with Children(folder) as children:
        load = LoadGenerator(children)
        say("start of the floor")
        floor = start_floor(children)
        of_floor = _start(floor)
        load.run(Order(floor.port, 16, 30.0, _PLANS))
        floor_mib = pss_mib(floor.children)
        # Whatever else runs would share pages, and make the memory look smaller than it is.
        children.end([child.process for child in floor.children])
        say("first start of the mesh, second start")
        variables = scripted(folder)
        mesh = start_mesh(children, folder / "mesh", variables=variables)
        first = _start(mesh)
        mesh.stop(children)
        mesh = start_mesh(children, folder / "mesh", variables=variables)
        second = _start(mesh)
        load.run(Order(mesh.port, 16, 30.0, _PLANS))
        idle = Target("mesh", mesh.port, mesh.children, BEHIND_S).at_rest().idle
        mesh_mib = pss_mib(mesh.children)
    rows = [
        *_rows("first start, knowledge bases to ingest", of_floor, first),
        *_rows("second start", of_floor, second),
        *_memory_rows(floor_mib, mesh_mib),
        Row("processor time idle, a second: all", "ms", None, sum(idle.values()) * 1000, None),
    ]
    return Part(rows)


def _start(started: Floor | Mesh) -> Start:
    return Start(started.ready_after_s, sum(cpu_s(started.children).values()))


def _rows(text: str, floor: Start, start: Start) -> Iterator[Row]:
    aim = f"{met(start.ready_s <= _READY_S)} ≤ {_READY_S:g} s"
    yield Row(f"{text}: until ready", "s", floor.ready_s, start.ready_s, start.ready_s / floor.ready_s, aim=aim)
    yield Row(f"{text}: processor time", "s", floor.cpu_s, start.cpu_s, start.cpu_s / floor.cpu_s)


def _memory_rows(floor: Mapping[str, float], mesh: Mapping[str, float]) -> Iterator[Row]:
    for name, mib in mesh.items():
        base = floor.get(name)
        yield Row(f"memory idle (PSS): {name}", "MiB", base, mib, mib / base if base else None)
    total, of_floor = sum(mesh.values()), sum(floor.values())
    aim = f"{met(total < _IDLE_MIB)} < {_IDLE_MIB} MiB"
    yield Row("memory idle (PSS): all", "MiB", of_floor, total, total / of_floor, aim=aim)
