"""How much processor time everything that a call started has used together.

The control group knows it exactly. Without one it is the sum over the processes of the call: what they have used
themselves and what those had used for which they waited; and over what the jailer, to which all orphans come, has
reaped (proc(5), /proc/pid/stat; getrusage(2), RUSAGE_CHILDREN). Not seen that way is a process that lived between two
looks and whose parent ignores SIGCHLD, for the kernel adds that to nobody.
"""

from __future__ import annotations

import os
import resource

from pagi_sandbox.zygote.cgroups import Group

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """Counts from its making on, in the jailer."""

    def __init__(self, group: Group | None) -> None:
        """`group`: the slot's control group, if it has one."""
        self._group = group
        self._before = self._total_ms()

    def spent_ms(self) -> int:
        """Milliseconds so far, of user and system time on all processors together."""
        return int(self._total_ms() - self._before)

    def _total_ms(self) -> float:
        counted = self._group.processor_ms() if self._group is not None else None
        if counted is not None:
            return counted
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
        # From parents to children: one that is reaped meanwhile is missed until the next look, and never counted twice.
        return (reaped.ru_utime + reaped.ru_stime) * 1000 + sum(map(_with_descendants_ms, _children(os.getpid())))


def _with_descendants_ms(pid: int) -> float:
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        total += _used_ms(one)
        waiting += _children(one)
    return total


def _used_ms(pid: int) -> float:
    """Fields 14 to 17: user and system time, its own and that of those for which it waited."""
    # After the name, which may hold anything.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK_MS


def _children(pid: int) -> list[int]:
    """Of all its threads; none where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
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
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # it has ended
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
