"""What processes have used: processor time and memory, as Linux tells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dev_mesh.processes import descendants, memory_mib

from benchmarks.children import Child

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_s(children: Iterable[Child]) -> dict[str, float]:
    """Processor seconds of each process so far, by name, with those that it started, ended ones included.

    From fields 14 to 17 of /proc/<pid>/stat (proc(5)): user, system, and both for children that were waited for. The
    resolution is 10 ms: measure over more.
    """
    return {
        child.name: sum(_ticks(each.pid) for each in descendants([child.pid])) / _TICKS_A_SECOND for child in children
    }


def pss_mib(children: Iterable[Child]) -> dict[str, float]:
    """Memory of each process with those that it started, by name, in MiB; a page that n share counts 1/n (PSS)."""
    return {child.name: memory_mib(child.pid) or 0.0 for child in children}


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0  # it ended just now; its parent will tell
    return sum(int(field) for field in text.rpartition(")")[2].split()[11:15])


def tree_pss_mib(pid: int) -> float:
    """Memory of a process with those that descend from it (PSS), in MiB."""
    return memory_mib(pid) or 0.0


def own_pss_mib(pid: int, part: str = "Pss") -> float:
    """Memory of one process alone (PSS), in MiB; 0 where it is gone.

    From /proc/<pid>/smaps_rollup (Documentation/filesystems/proc.rst), in KiB.

    Args:
        pid: Its number.
        part: `Pss`, or `Pss_Anon`: without the pages of files, which others that run the same programs share;
            `Anonymous` is the same with what it shares counted in full.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{part}:")) / 1024
