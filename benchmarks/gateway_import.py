"""How much processor time the import of the model gateway takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

_REPEATS = 7


def import_ms() -> float:
    """Milliseconds of processor time, the bare interpreter's taken off; the median of some."""
    _run_ms("import pagi_gateway.__main__")  # byte code is compiled once
    pairs = [(_run_ms("import pagi_gateway.__main__"), _run_ms("pass")) for _ in range(_REPEATS)]
    return statistics.median(service for service, _ in pairs) - statistics.median(bare for _, bare in pairs)


def _run_ms(statement: str) -> float:
    child = subprocess.Popen([sys.executable, "-c", statement])
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"`{statement}` ended with status {child.returncode}")
    return (used.ru_utime + used.ru_stime) * 1000
