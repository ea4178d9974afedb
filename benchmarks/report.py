"""The figures as one table in Markdown, and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.rows import Part, Row

HEADINGS = ("figure", "floor", "mesh", "to floor", "traced", "to floor", "on to off", "aim")


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


def markdown(where: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The table, with the machine above it."""
    return (
        f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, {where['system']}, {where['date']},"
        f" load average {where['load_before']} before the run\n\n{table(rows)}"
    )


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 2) + "---|"]
    for row in rows:
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


def as_json(where: Mapping[str, Any], parts: Mapping[str, Part]) -> dict[str, Any]:
    """The table and what it was made from."""
    return {
        "machine": dict(where),
        "rows": [asdict(row) for part in parts.values() for row in part.rows],
        "details": {name: part.details for name, part in parts.items()},
    }


def _formatter(unit: str) -> Callable[[float | None], str]:
    def formatted(value: float | None) -> str:
        if value is None:
            return ""
        digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.3 else 3
        return f"{value:.{digits}f} {unit}".rstrip()

    return formatted


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
