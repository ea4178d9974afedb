"""How much processor time the import of each service takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import ROOT
from benchmarks.rows import Part, Row, met, say

# What the bench's floor of an import is: the servers that every service is made of, with nothing around them.
MODULES = {
    "agent-planner": ("pagi_planner.__main__", "benchmarks.floor_front"),
    "model-gateway": ("pagi_gateway.__main__", "benchmarks.floor_server"),
    "memory": ("pagi_memory.__main__", "benchmarks.floor_server"),
    "sandbox": ("pagi_sandbox.__main__", "benchmarks.floor_server"),
    "notification-subscriber": ("pagi_notifier.__main__", "benchmarks.floor_server"),
}

_MOST_MS = {"memory": 1_000}
_MOST_OF_OTHERS_MS = 300
_REPEATS = 5


def import_rows(_folder: Path, quick: bool) -> Part:
    """Imports every service."""
    say("imports")
    rows = []
    for name, (service, floor) in import_ms(1 if quick else _REPEATS).items():
        most = _MOST_MS.get(name, _MOST_OF_OTHERS_MS)
        aim = f"{met(service < most)} < {most} ms"
        rows.append(Row(f"import, processor time: {name}", "ms", floor, service, service / floor, aim=aim))
    return Part(rows)


def import_ms(repeats: int) -> Mapping[str, tuple[float, float]]:
    """Milliseconds of processor time to import each service, and its floor; the bare interpreter's taken off.

    Args:
        repeats: How often each is measured, in turns; the median counts.
    """
    statements = {"": "pass"}
    statements |= {module: f"import {module}" for pair in MODULES.values() for module in pair}
    seen: dict[str, list[float]] = {module: [] for module in statements}
    for statement in statements.values():  # byte code is compiled once
        _run_ms(statement)
    for _ in range(repeats):
        for module, statement in statements.items():
            seen[module].append(_run_ms(statement))
    bare = statistics.median(seen[""])
    return {
        name: (statistics.median(seen[service]) - bare, statistics.median(seen[floor]) - bare)
        for name, (service, floor) in MODULES.items()
    }


def _run_ms(statement: str) -> float:
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    child = subprocess.Popen([sys.executable, "-c", statement], env=environment, cwd=ROOT)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"`{statement}` ended with status {child.returncode}")
    return (used.ru_utime + used.ru_stime) * 1000
