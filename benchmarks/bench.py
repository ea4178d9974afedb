"""The course of a bench: starts, memory, plans, imports, isolated calls."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import Children
from benchmarks.floor import start_floor
from benchmarks.imports import import_ms
from benchmarks.isolated import SandboxFigures, Turns, measure_sandbox
from benchmarks.load import LoadGenerator, Order
from benchmarks.mesh import start_mesh
from benchmarks.rounds import Level, Series, Target, measure
from benchmarks.usage import cpu_s, pss_mib

_EXPORTED_AFTER_S = 0.6


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        levels: Of concurrency.
        rounds_s: For the rounds of all levels; those that do not fit are left out.
        warm_up_plans: Before anything is measured.
        import_repeats: See `imports`.
        sandbox: See `isolated`.
    """

    levels: tuple[Level, ...]
    rounds_s: float
    warm_up_plans: int
    import_repeats: int
    sandbox: Turns


FULL = Scale(
    levels=(Level(1, 10, 1.5), Level(1, 5, 1.5, is_known=True), Level(16, 8, 2.0), Level(64, 5, 3.0)),
    rounds_s=150.0,
    warm_up_plans=200,
    import_repeats=5,
    sandbox=Turns(rounds=12, calls=5, seconds=25.0, flood_s=1.0),
)
QUICK = Scale(
    levels=(Level(1, 2, 0.6), Level(16, 2, 0.8), Level(64, 1, 1.5)),
    rounds_s=14.0,
    warm_up_plans=60,
    import_repeats=1,
    sandbox=Turns(rounds=3, calls=3, seconds=3.0, flood_s=0.3),
)


@dataclass(frozen=True)
class Start:
    """One start of everything: seconds until ready, and processor seconds that it took."""

    ready_s: float
    cpu_s: float


@dataclass(frozen=True)
class Figures:
    """All that was measured. Keys: floor, mesh, traced, and below them the names of processes.

    Attributes:
        series: One for each level.
        starts: floor, first (of the mesh, nothing ingested), second.
        memory_mib: Of floor and mesh, idle after some plans, by process.
        imports_ms: Of each service, and of its floor.
        spans_a_plan: With tracing on.
        sandbox: Isolated calls against bare interpreters.
    """

    series: list[Series]
    starts: Mapping[str, Start]
    memory_mib: Mapping[str, Mapping[str, float]]
    imports_ms: Mapping[str, tuple[float, float]]
    spans_a_plan: float
    sandbox: SandboxFigures


def run(scale: Scale, folder: Path) -> Figures:
    """Measures everything, in about the time that the scale gives and a minute more.

    Args:
        scale: How much.
        folder: For data and logs; the caller deletes it.

    Raises:
        BenchError: Something did not start, or a plan failed.
    """
    starts: dict[str, Start] = {}
    memory: dict[str, Mapping[str, float]] = {}
    data = folder / "data"
    with Children(folder) as children:
        load = LoadGenerator(children)
        _say("the floor alone")
        floor = start_floor(children)
        starts["floor"] = Start(floor.ready_after_s, sum(cpu_s(floor.children).values()))
        load.run(Order(floor.port, 16, 30.0, scale.warm_up_plans))
        memory["floor"] = pss_mib(floor.children)
        # Whatever else runs would share pages, and make the memory look smaller than it is.
        children.end([child.process for child in floor.children])

        _say("the mesh alone: first start, second start")
        mesh = start_mesh(children, data)
        starts["first"] = Start(mesh.ready_after_s, sum(cpu_s(mesh.children).values()))
        mesh.stop(children)
        shutil.copytree(data, folder / "traced")
        mesh = start_mesh(children, data)
        starts["second"] = Start(mesh.ready_after_s, sum(cpu_s(mesh.children).values()))
        load.run(Order(mesh.port, 16, 30.0, scale.warm_up_plans))
        time.sleep(_EXPORTED_AFTER_S)
        memory["mesh"] = pss_mib(mesh.children)

        floor = start_floor(children)
        receiver = children.start_module("otlp-receiver", "benchmarks.otlp_receiver")
        endpoint = f"http://127.0.0.1:{receiver.listen()['port']}"
        traced = start_mesh(children, folder / "traced", otlp_endpoint=endpoint)
        for port in (floor.port, traced.port):
            load.run(Order(port, 16, 30.0, scale.warm_up_plans))
        targets = [
            Target("floor", floor.port, floor.children),
            Target("mesh", mesh.port, mesh.children),
            Target("traced", traced.port, traced.children, _EXPORTED_AFTER_S),
        ]
        time.sleep(_EXPORTED_AFTER_S)
        spans = receiver.ask({})["spans"]
        series = []
        for level in scale.levels:
            _say(f"plans, {level.text}")
            share = scale.rounds_s / len(scale.levels)
            series.append(measure(load, targets, level, until=time.monotonic() + share))
        time.sleep(_EXPORTED_AFTER_S)
        spans = receiver.ask({})["spans"] - spans
    _say("isolated calls")
    sandbox = measure_sandbox(folder, scale.sandbox)
    _say("imports")
    plans = sum(each.plans("traced") for each in series)
    return Figures(series, starts, memory, import_ms(scale.import_repeats), spans / plans, sandbox)


def _say(what: str) -> None:
    sys.stderr.write(f"bench: {what}\n")
