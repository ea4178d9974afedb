"""The plan of the bench against its floor: three model calls and two tool calls after each other, journaled.

Four targets take turns: the floor (`floor_front`), the mesh with tracing off, the mesh with every span sent, and the
floor with each prompt embedded, which tells what is left for all the rest of a run. See `script` for what the model
answers.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pagi_planner.bootstrap import MIND_DELAY_S

from benchmarks.children import Child, Children
from benchmarks.floor import start_floor
from benchmarks.load import LoadGenerator, Order
from benchmarks.mesh import Mesh, start_mesh
from benchmarks.rounds import Batch, Level, Series, Target, measure
from benchmarks.rows import Part, Row, met, say
from benchmarks.script import PLAN_ANSWERS, scripted

# What a mesh does behind its answers begins with so long a pause.
BEHIND_S = MIND_DELAY_S + 0.4
_EXPORTED_AFTER_S = 0.6
# Longer than the pause at 16 and 64, so that what is done behind the answers takes part in the load, too. The floor has
# nothing of the kind.
_FULL = (Level(1, 5, 2.0), Level(16, 4, 4.0), Level(64, 4, 4.0))
_QUICK = (Level(1, 1, 1.0), Level(16, 1, 3.0), Level(64, 1, 3.0))
_KNOWN_FULL = Level(1, 3, 2.0, is_known=True)
_KNOWN_QUICK = Level(1, 1, 1.0, is_known=True)
_WARM_UP_PLANS = 200
_FLOOR_SHARE = 0.5

_MOST_P50 = 1.5
_MOST_CPU_MS = 6.0
_LEAST_RATE = 0.6
_MOST_TRACING = 1.25

# The floor that embeds each prompt.
EMBEDDING = "embedding"


class Figure(NamedTuple):
    """What is said of a batch."""

    text: str
    unit: str
    value: Callable[[Batch], float]


P50 = Figure("p50", "ms", lambda batch: batch.p50_ms)
CPU = Figure("processor time a plan", "ms", lambda batch: batch.cpu_ms)
RATE = Figure("plans a second", "/s", lambda batch: batch.plans_a_second)


@dataclass(frozen=True)
class Spans:
    """Counts them.

    Attributes:
        receiver: The process that they go to.
    """

    receiver: Child

    def so_far(self) -> int:
        """How many have come."""
        return int(self.receiver.ask({})["spans"])


def plan_rows(folder: Path, quick: bool) -> Part:
    """Measures plans, one at a time and many at once.

    Raises:
        BenchError: Something did not start, or a plan failed.
    """
    with Children(folder) as children:
        load = LoadGenerator(children)
        _ingest(children, folder)
        floor, mesh = floor_and_mesh(children, load, folder)
        traced, spans = _traced(children, load, folder)
        targets, series = [floor, mesh, traced, _embedding_floor(children, load)], []
        before = spans.so_far()
        for level in _QUICK if quick else _FULL:
            say(f"plans, {level.text}")
            series.append(measure(load, targets, level))
        each = (spans.so_far() - before) / sum(one.plans("traced") for one in series)
        known = _KNOWN_QUICK if quick else _KNOWN_FULL
        say(f"plans, {known.text}")
        series.insert(1, measure(load, targets[:2], known))
    rows = [row for one in series for row in level_rows(one)]
    at_16 = next(one for one in series if one.level.concurrency > 1)
    rows += [*process_rows(at_16), Row("spans a plan", "", None, None, None, traced=each)]
    idle = {target.name: {name: used * 1000 for name, used in target.idle.items()} for target in targets}
    batches = [batch for one in series for batch in as_json(one)]
    return Part(rows, {"idle_cpu_ms_a_second": idle, "batches": batches})


def _ingest(children: Children, folder: Path) -> None:
    """Has the knowledge bases ingested once, for two meshes: what a running one holds is not copied."""
    start_mesh(children, folder / "mesh", variables=scripted(folder)).stop(children)
    shutil.copytree(folder / "mesh", folder / "traced")


def floor_and_mesh(children: Children, load: LoadGenerator, folder: Path) -> tuple[Target, Target]:
    """Starts and warms up both."""
    floor = _floor(children, load, "floor", embeds=False)
    mesh = start_mesh(children, folder / "mesh", variables=scripted(folder))
    return floor, warmed_up(load, mesh, "mesh")


def _embedding_floor(children: Children, load: LoadGenerator) -> Target:
    """The floor with the one thing that a plan with a new prompt cannot do without."""
    return _floor(children, load, EMBEDDING, embeds=True)


def _floor(children: Children, load: LoadGenerator, name: str, *, embeds: bool) -> Target:
    floor = start_floor(children, embeds=embeds)
    load.run(Order(floor.port, 16, 30.0, _WARM_UP_PLANS))
    return Target(name, floor.port, floor.children, share=_FLOOR_SHARE)


def warmed_up(load: LoadGenerator, mesh: Mesh, name: str, *, rest_s: float = BEHIND_S) -> Target:
    """A mesh that has made some plans, at rest.

    Raises:
        BenchError: A plan did not make two tool calls after each other.
    """
    load.run(Order(mesh.port, 16, 30.0, _WARM_UP_PLANS, expected=PLAN_ANSWERS))
    return Target(name, mesh.port, mesh.children, rest_s, expected=PLAN_ANSWERS).at_rest()


def _traced(children: Children, load: LoadGenerator, folder: Path) -> tuple[Target, Spans]:
    receiver = children.start_module("otlp-receiver", "benchmarks.otlp_receiver")
    endpoint = f"http://127.0.0.1:{receiver.listen()['port']}"
    mesh = start_mesh(children, folder / "traced", otlp_endpoint=endpoint, variables=scripted(folder))
    target = warmed_up(load, mesh, "traced", rest_s=BEHIND_S + _EXPORTED_AFTER_S)
    time.sleep(_EXPORTED_AFTER_S)
    return target, Spans(receiver)


def level_rows(series: Series) -> Iterator[Row]:
    """The figures of one level."""
    at_once, is_known = f"`/plan`, {series.level.text}", series.level.is_known
    p50 = _compared(series, at_once, P50)
    aim = f"{met((p50.ratio or 0) <= _MOST_P50)} ≤ {_MOST_P50:g}"
    if p50.on_to_off is not None:
        aim += f"; {met(p50.on_to_off <= _MOST_TRACING)} on to off ≤ {_MOST_TRACING:g}"
    yield p50 if is_known else p50.aimed(aim)
    cpu = _compared(series, at_once, CPU)
    yield cpu if is_known else cpu.aimed(f"{met((cpu.mesh or 0) < _MOST_CPU_MS)} < {_MOST_CPU_MS:g} ms")
    if is_known:
        return
    rate = _compared(series, at_once, RATE)
    has_aim = series.level.concurrency > 1
    yield rate.aimed(f"{met((rate.ratio or 0) >= _LEAST_RATE)} ≥ {_LEAST_RATE:g}") if has_aim else rate
    floor, mesh = series.p99_ms("floor"), series.p99_ms("mesh")
    row = Row(f"{at_once}: p99", "ms", floor, mesh, mesh / floor)
    yield row.with_traced(series.p99_ms("traced")) if series.has("traced") else row
    if series.has(EMBEDDING):
        yield from _embedding_rows(series, f"{at_once}, the floor with the prompt embedded")


def _embedding_rows(series: Series, text: str) -> Iterator[Row]:
    """What is left of the aims when the model has read the prompt: nothing else of a run is done there."""
    for figure in (P50, CPU, RATE):
        floor, embedding = series.median("floor", figure.value), series.median(EMBEDDING, figure.value)
        ratio = series.ratio(EMBEDDING, "floor", figure.value)
        yield Row(f"{text}: {figure.text}", figure.unit, floor, embedding, ratio)


def process_rows(series: Series) -> Iterator[Row]:
    """Where the processor time goes, process by process, the most first."""
    names = series.batches["mesh"][0].cpu_ms_a_plan
    used = {name: {target: _median_of(series, target, name) for target in series.batches} for name in names}
    for name, by_target in sorted(used.items(), key=lambda each: -each[1]["mesh"]):
        floor, mesh = by_target["floor"] or None, by_target["mesh"]
        figure = f"processor time a plan, {series.level.text}: {name}"
        row = Row(figure, "ms", floor, mesh, mesh / floor if floor else None)
        yield row.with_traced(by_target["traced"]) if "traced" in by_target else row


def as_json(series: Series) -> Iterator[Mapping[str, Any]]:
    """Every batch, without the time of every single plan."""
    for target, taken in series.batches.items():
        for batch in taken:
            yield {
                "level": series.level.text,
                "target": target,
                "plans": len(batch.latencies_ms),
                "p50_ms": batch.p50_ms,
                "plans_a_second": batch.plans_a_second,
                "cpu_ms_a_plan": dict(batch.cpu_ms_a_plan),
            }


def _median_of(series: Series, target: str, process: str) -> float:
    taken: Sequence[Batch] = series.batches[target]
    return statistics.median(batch.cpu_ms_a_plan.get(process, 0.0) for batch in taken)


def _compared(series: Series, text: str, figure: Figure) -> Row:
    value = figure.value
    ratio = series.ratio("mesh", "floor", value)
    medians = series.median("floor", value), series.median("mesh", value)
    row = Row(f"{text}: {figure.text}", figure.unit, *medians, ratio)
    if not series.has("traced"):
        return row
    return row.with_traced(
        series.median("traced", value),
        to_floor=series.ratio("traced", "floor", value),
        on_to_off=series.ratio("traced", "mesh", value),
    )
