"""Processes as the system shows them: who lives, who descends from whom, what they use, and how they are ended.

Details come from /proc; without one (macOS) a process is known by its number alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one of the same number.

    Attributes:
        pid: Its number.
        start: When it started, in clock ticks since the system did; 0 where that is not known.
    """

    pid: int
    start: int


def identify(pid: int) -> ProcessId | None:
    """The living process of that number; None where there is none (one that only waits to be reaped is dead)."""
    if not _HAS_PROC:
        return ProcessId(pid, 0) if _answers(pid) else None
    fields = _stat(pid)
    return ProcessId(pid, int(fields[19])) if fields and fields[0] not in "ZX" else None


def is_alive(process: ProcessId) -> bool:
    """Whether this very process lives."""
    return identify(process.pid) == process


def descendants(roots: Iterable[int]) -> set[ProcessId]:
    """The processes, their children and so on, and whoever is in a process group or session that one of them leads."""
    wanted = set(roots)
    if not _HAS_PROC:
        return {found for pid in wanted if (found := identify(pid))}
    table = {
        int(entry.name): fields
        for entry in _PROC.iterdir()
        if entry.name.isdigit() and (fields := _stat(int(entry.name)))
    }
    grown = True
    while grown:
        more = {pid for pid, fields in table.items() if not wanted.isdisjoint(map(int, fields[1:4]))}
        grown = not more <= wanted
        wanted |= more
    return {ProcessId(pid, int(table[pid][19])) for pid in wanted if pid in table and table[pid][0] not in "ZX"}


def children(pid: int) -> set[int]:
    """The numbers of the direct children, those that wait to be reaped included."""
    if not _HAS_PROC:
        return set()
    numbers = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    return {number for number in numbers if (fields := _stat(number)) and int(fields[1]) == pid}


def memory_mib(pid: int) -> float | None:
    """What a process and its descendants use, shared pages counted once (PSS), in MiB; None where not known."""
    total = 0
    for process in descendants([pid]):
        try:
            lines = (_PROC / str(process.pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024 if total else None


def command_line(pid: int) -> str:
    """How a process was started, for people; empty where it may not be seen."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def end(leaders: Iterable[ProcessId], *, grace_s: float) -> set[ProcessId]:
    """Ends processes and everything that descends from them.

    The leaders are asked first (SIGTERM), so that each ends its own children in order; after the grace time, or once
    they are gone, whatever is left is killed.

    Returns:
        Who had to be killed.
    """
    leading = [process for process in leaders if is_alive(process)]
    family = descendants(process.pid for process in leading)
    for process in leading:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(is_alive(process) for process in leading) and time.monotonic() < deadline:
        family |= descendants(process.pid for process in leading)
        time.sleep(0.02)
    return kill(family)


def kill(family: set[ProcessId]) -> set[ProcessId]:
    """Kills who still lives, with their descendants, and waits up to 2 s until they are gone; returns who lived."""
    deadline = time.monotonic() + 2.0
    killed: set[ProcessId] = set()
    while living := {process for process in family if is_alive(process)}:
        # Looked up each time: a process may fork while it is being killed.
        living |= descendants(process.pid for process in living)
        for process in living:
            _signal(process, signal.SIGKILL)
        killed |= living
        family |= living
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return killed


def _signal(process: ProcessId, number: int) -> None:
    try:
        if is_alive(process):
            os.kill(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone in between, or it now belongs to somebody else


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name: state, parent, group, session, ...; empty where it is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
