"""What everything that a call started uses together: processor time, tasks, memory, and disk that no name shows.

A control group counts the first three exactly. Without one they are sums over the processes of the call (proc(5),
/proc/pid/stat and smaps_rollup), taken from time to time, so that a call is over its bounds for a moment before it is
seen. Processor time is what the processes have used themselves and what those had used for which they waited, and what
the jailer, to which all orphans come, has reaped (getrusage(2), RUSAGE_CHILDREN). Not seen that way is the time of a
process that lived between two looks and whose parent ignores SIGCHLD, for the kernel adds that to nobody.
"""

from __future__ import annotations

import os
import resource
import time
from typing import NamedTuple

from pagi_sandbox.zygote import held_files, wire
from pagi_sandbox.zygote.cgroups import OWN_BYTES, Group

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()
# How often a call that lasts is looked at; more seldom, within bounds, where looking takes over a fifth of the time.
_EVERY_MS, _LEAST_PAUSE, _SELDOM_MS = 50, 4, 250
_OF_ITS_OWN = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")


class Budget(NamedTuple):
    """What all of a call may have together; 0: no bound."""

    cpu_ms: int
    memory_bytes: int
    disk_bytes: int
    tasks: int


class Excess(NamedTuple):
    """What a call had too much of (a letter of wire.py), and how much."""

    kind: bytes
    amount: int


class Usage:
    """Counts from its making on, in the jailer, below which there is nothing then."""

    def __init__(self, group: Group | None, folder: str, keepers: int, inside: str = "") -> None:
        """For one call.

        Args:
            group: the slot's control group, if it has one.
            folder: the call's folder for temporary files where that lies on a disk; else empty.
            keepers: tasks below the jailer that are not the call's.
            inside: the call's folder in memory, as its processes see it, where the kernel does not bound its names.
        """
        self._group = group
        self._folder = folder
        self._keepers = keepers
        self._inside = inside
        self._looks = 0
        self._before_ms = self._other_ms()

    def excess(self, budget: Budget) -> Excess | None:
        """The first bound that is broken."""
        spent_ms = self._other_ms() - self._before_ms
        # From parents to children: one that is reaped meanwhile is missed until the next look, never counted twice.
        processes = _below(os.getpid(), budget.tasks + self._keepers)
        if self._group is None:
            tasks = sum(one.tasks for one in processes) - self._keepers
            if 0 < budget.tasks < tasks:
                return Excess(wire.PROCESSES, tasks)
        if not self._counted():
            spent_ms += sum(one.cpu_ms for one in processes)
        if 0 < budget.cpu_ms < spent_ms:
            return Excess(wire.TIME, int(spent_ms))
        if self._group is None:
            most = budget.memory_bytes + OWN_BYTES
            if budget.memory_bytes and (held := _memory(processes, most)) > most:
                return Excess(wire.MEMORY, held)
        # Above the call's own, so found before them; and closed to others, as process 1 inside bubblewrap is.
        own = [one.pid for one in processes[self._keepers :]]
        # Each time another one first, for not all may be looked at.
        self._looks += 1
        first = self._looks % (len(own) or 1)
        return self._on_disk(budget.disk_bytes, [*own[first:], *own[:first]]) if budget.disk_bytes else None

    def _on_disk(self, most: int, pids: list[int]) -> Excess | None:
        if self._folder and (written := held_files.folder_bytes(self._folder, most)) > most:
            return Excess(wire.DISK, written)
        if self._inside and pids and held_files.too_many_names(f"/proc/{pids[0]}/root{self._inside}", most):
            return Excess(wire.DISK, most + 1)
        if (unnamed := held_files.unnamed_bytes(pids, most)) > most:
            return Excess(wire.UNNAMED, unnamed)
        return None

    def _counted(self) -> bool:
        return self._group is not None and self._group.processor_ms() is not None

    def _other_ms(self) -> float:
        """What its group counted; else that of processes that are gone, and ours, for we work for it."""
        counted = self._group.processor_ms() if self._group is not None else None
        if counted is not None:
            return counted
        used = (resource.getrusage(whose) for whose in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
        return sum(one.ru_utime + one.ru_stime for one in used) * 1000


class Watch:
    """Looks from time to time, from `begin` on, until there is an excess."""

    def __init__(self, usage: Usage) -> None:
        """For one call."""
        self._usage = usage
        self._budget: Budget | None = None
        self._next = 0.0
        self._pause_ms = _EVERY_MS

    @property
    def pause_ms(self) -> int | None:
        """How long to wait for the next look; None where there is none to come."""
        return self._pause_ms if self._budget is not None else None

    def begin(self, budget: Budget) -> None:
        """Nothing is looked at before."""
        self._budget = budget

    def look(self) -> Excess | None:
        """What there is too much of; told once."""
        began = time.monotonic()
        # Not at each of a call's signals, or it could keep us busy.
        if self._budget is None or began < self._next:
            return None
        excess = self._usage.excess(self._budget)
        if excess is not None:
            self._budget = None
        took_ms = int(1000 * (time.monotonic() - began))
        self._pause_ms = min(max(_EVERY_MS, _LEAST_PAUSE * took_ms), _SELDOM_MS)
        self._next = began + self._pause_ms / 1000
        return excess


class _Process(NamedTuple):
    pid: int
    cpu_ms: float
    tasks: int
    resident_bytes: int


def _below(top: int, most: int = 0) -> list[_Process]:
    """Every descendant; none where the kernel does not tell (CONFIG_PROC_CHILDREN).

    No further than to one more than `most`: where there are too many, each moment that it takes makes more of them.
    """
    found: list[_Process] = []
    waiting = _children(top)
    while waiting and not 0 < most < len(found):
        pid = waiting.pop()
        # After the name, which may hold anything. Fields 14 to 17: user and system time, its own and of those for which
        # it waited; 20: threads; 24: pages.
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        if fields:
            used = sum(map(int, fields[11:15])) * _TICK_MS
            found.append(_Process(pid, used, max(1, int(fields[17])), int(fields[21]) * _PAGE))
        waiting += _children(pid)
    return found


def _memory(processes: list[_Process], most: int) -> int:
    """What they hold where it is more than `most`; else no more than that, with what they share counted for each."""
    total = sum(one.resident_bytes for one in processes)
    return total if total <= most else sum(map(_own_memory, processes))


def _own_memory(process: _Process) -> int:
    """Memory that no file backs; what processes share counts for each in part."""
    try:
        text = _read_or_fail(f"/proc/{process.pid}/smaps_rollup")
    except PermissionError:
        return process.resident_bytes  # it has closed itself to us
    except OSError:
        return 0  # it has ended
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(_OF_ITS_OWN))


def _children(pid: int) -> list[int]:
    """Of all its threads."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 the cheapest way, taken every 50 ms
    except OSError:
        return []  # it has ended
    found: list[int] = []
    for thread in threads:
        found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _read(path: str) -> bytes:
    try:
        return _read_or_fail(path)
    except OSError:
        return b""  # it has ended


def _read_or_fail(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 65_536)
    finally:
        os.close(descriptor)
