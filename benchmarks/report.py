"""The figures as one table in Markdown, and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench import Figures
from benchmarks.rounds import Batch, Series
from benchmarks.rows import Row, met
from benchmarks.sandbox_rows import sandbox_rows

HEADINGS = ("figure", "floor", "mesh", "to floor", "traced", "to floor", "on to off", "aim")
_PLAN_RATIO = 2.0
_TRACING_RATIO = 1.25
_IMPORT_MS = 300
_MEMORY_IMPORT_MS = 1000
_READY_S = 5.0
_IDLE_MIB = 600


def machine() -> dict[str, Any]:
    """Where and when it was measured."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "load_before": round(load, 1),
    }


def rows(figures: Figures) -> list[Row]:
    """Every line of the table."""
    return [
        *(row for series in figures.series for row in _plan_rows(series)),
        *_process_rows(next(each for each in figures.series if each.level.concurrency > 1)),
        Row("spans a plan", "", None, None, None, traced=figures.spans_a_plan),
        *_import_rows(figures.imports_ms),
        *_start_rows(figures),
        *_memory_rows(figures.memory_mib),
        *sandbox_rows(figures.sandbox),
    ]


def markdown(where: Mapping[str, Any], table: list[Row]) -> str:
    """The table, with the machine above it."""
    lines = [
        f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, {where['system']}, {where['date']},"
        f" load average {where['load_before']} before the run",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|" + "---:|" * (len(HEADINGS) - 2) + "---|",
    ]
    for row in table:
        value = _formatter(row.unit)
        cells = [
            row.figure,
            value(row.floor),
            value(row.mesh),
            _times(row.ratio),
            value(row.traced),
            _times(row.traced_ratio),
            _times(row.on_to_off),
            row.aim,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(where: Mapping[str, Any], table: list[Row], figures: Figures) -> dict[str, Any]:
    """The table and what it was made from, without the time of every single plan."""
    batches = [
        {
            "concurrency": series.level.concurrency,
            "is_known": series.level.is_known,
            "target": target,
            "plans": len(batch.latencies_ms),
            "p50_ms": batch.p50_ms,
            "plans_a_second": batch.plans_a_second,
            "cpu_ms_a_plan": dict(batch.cpu_ms_a_plan),
        }
        for series in figures.series
        for target, taken in series.batches.items()
        for batch in taken
    ]
    return {
        "machine": dict(where),
        "rows": [asdict(row) for row in table],
        "batches": batches,
        "sandbox": asdict(figures.sandbox),
    }


def _plan_rows(series: Series) -> Iterator[Row]:
    at_once = f"`/plan`, {series.level.text}"
    yield _compared(series, f"{at_once}: p50", "ms", lambda batch: batch.p50_ms, has_aim=not series.level.is_known)
    floor, mesh, traced = (series.p99_ms(target) for target in ("floor", "mesh", "traced"))
    yield Row(f"{at_once}: p99", "ms", floor, mesh, mesh / floor, traced, traced / floor, traced / mesh)
    yield _compared(series, f"{at_once}: plans a second", "/s", lambda batch: batch.plans_a_second)
    yield _compared(series, f"{at_once}: processor time a plan", "ms", lambda batch: batch.cpu_ms)


def _compared(series: Series, figure: str, unit: str, value: Callable[[Batch], float], *, has_aim: bool = False) -> Row:
    ratio = series.ratio("mesh", "floor", value)
    tracing = series.ratio("traced", "mesh", value)
    aim = f"{met(ratio <= _PLAN_RATIO)} ≤ 2; {met(tracing <= _TRACING_RATIO)} on to off ≤ 1.25" if has_aim else ""
    return Row(
        figure,
        unit,
        series.median("floor", value),
        series.median("mesh", value),
        ratio,
        series.median("traced", value),
        series.ratio("traced", "floor", value),
        tracing,
        aim,
    )


def _process_rows(series: Series) -> Iterator[Row]:
    """Where the processor time goes, process by process."""
    names = list(series.batches["mesh"][0].cpu_ms_a_plan)
    for name in sorted(names, key=lambda each: -series.median("mesh", lambda batch: batch.cpu_ms_a_plan[each])):
        floor, mesh, traced = (
            statistics.median(batch.cpu_ms_a_plan.get(name, 0.0) for batch in series.batches[target])
            for target in ("floor", "mesh", "traced")
        )
        yield Row(
            f"processor time a plan, {series.level.text}: {name}",
            "ms",
            floor or None,
            mesh,
            mesh / floor if floor else None,
            traced,
            traced / floor if floor else None,
            traced / mesh if mesh else None,
        )


def _import_rows(imports_ms: Mapping[str, tuple[float, float]]) -> Iterator[Row]:
    for name, (service, floor) in imports_ms.items():
        most = _MEMORY_IMPORT_MS if name == "memory" else _IMPORT_MS
        yield Row(
            f"import, processor time: {name}",
            "ms",
            floor,
            service,
            service / floor,
            aim=f"{met(service < most)} < {most} ms",
        )


def _start_rows(figures: Figures) -> Iterator[Row]:
    floor = figures.starts["floor"]
    for name, text in (("first", "first start, knowledge bases to ingest"), ("second", "second start")):
        start = figures.starts[name]
        aim = f"{met(start.ready_s <= _READY_S)} ≤ {_READY_S:g} s"
        yield Row(f"{text}: until ready", "s", floor.ready_s, start.ready_s, start.ready_s / floor.ready_s, aim=aim)
        yield Row(f"{text}: processor time", "s", floor.cpu_s, start.cpu_s, start.cpu_s / floor.cpu_s)


def _memory_rows(memory: Mapping[str, Mapping[str, float]]) -> Iterator[Row]:
    floor, mesh = memory["floor"], memory["mesh"]
    for name in mesh:
        base = floor.get(name)
        yield Row(
            f"memory idle (PSS): {name}",
            "MiB",
            base,
            mesh[name],
            mesh[name] / base if base else None,
        )
    total, of_floor = sum(mesh.values()), sum(floor.values())
    aim = f"{met(total < _IDLE_MIB)} < {_IDLE_MIB} MiB"
    yield Row("memory idle (PSS): all", "MiB", of_floor, total, total / of_floor, aim=aim)


def _formatter(unit: str) -> Callable[[float | None], str]:
    def formatted(value: float | None) -> str:
        if value is None:
            return ""
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        return f"{value:.{digits}f} {unit}".rstrip()

    return formatted


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
