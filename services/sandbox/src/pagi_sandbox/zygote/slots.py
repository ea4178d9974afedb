"""Slots of the fork server: their jailers are forked here and reaped here."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.zygote import bubblewrap, child, kernel, namespaces, scratch, wire
from pagi_sandbox.zygote.bubblewrap import BubblewrapJail
from pagi_sandbox.zygote.cgroups import Group, Groups
from pagi_sandbox.zygote.jail import Jail, Plan
from pagi_sandbox.zygote.jailer import Jailer, Run

MAX_FILES = 256
_MAX_SIGNALS = 1024


@dataclass(frozen=True, slots=True)
class _Slot:
    """What the fork server holds for a jailer.

    Attributes:
        number: of the slot.
        folder: its own.
        group: its own, if it has one.
        lifeline: our end of it: when we are gone, the jailer reads the end of its own. Not a pipe, which whoever finds
            it in /proc can open again, and write to.
    """

    number: int
    folder: str
    group: Group | None
    lifeline: socket.socket

    def close(self) -> None:
        """Gives the descriptors back."""
        self.lifeline.close()
        if self.group is not None:
            self.group.close()

    def remove(self) -> None:
        """Takes away what it had on the machine."""
        scratch.remove(self.folder)
        if self.group is not None:
            self.group.remove()


class Slots:
    """Every slot's jailer, by process number."""

    def __init__(self, tools: Mapping[str, Tool], groups: Groups | None) -> None:
        """`groups`: where control groups are made, if anywhere."""
        self._tools = tools
        self._groups = groups
        self._slots: dict[int, _Slot] = {}
        self._tasks = tasks_of(os.getuid())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._slots)

    def open(
        self, plan: Plan, number: int, kind: bytes, control: int, work: int, orders: dict[str, Any] | None = None
    ) -> int:
        """Forks a jailer; `orders` are for a child that serves pure tools.

        Returns:
            Its process number.

        Raises:
            OSError: there is no process, namespace or group to be had.
        """
        folder = Path(plan.scratch, f"slot-{number}")
        folder.mkdir(mode=0o700)
        group = self._groups.group(number) if plan.groups and self._groups is not None else None
        network = kind == wire.NETWORK
        jail: Jail | BubblewrapJail
        if plan.bubblewrap is not None:
            jail = BubblewrapJail(plan, network=network, group=group)
        else:
            jail = Jail(plan, network=network, group=group, tasks=self._tasks)
        lifeline, theirs = socket.socketpair()
        slot = _Slot(number, str(folder), group, lifeline)
        with theirs:
            try:
                pid = namespaces.clone(network=network) if plan.namespaces else os.fork()
            except OSError:
                slot.close()
                slot.remove()
                raise
            if pid == 0:
                self._become_jailer(number, control, work, theirs.detach(), jail, orders)
        if group is not None:
            group.close()
        self._slots[pid] = slot
        return pid

    def reaped(self, pid: int) -> int | None:
        """Forgets a jailer that has ended; its slot's number, None where it was none."""
        slot = self._slots.pop(pid, None)
        if slot is None:
            return None
        slot.lifeline.close()
        slot.remove()
        return slot.number

    def pids(self) -> Mapping[int, object]:
        """The jailers, by process number."""
        return self._slots

    def end(self) -> None:
        """Ends the jailers: without the lifeline they end their calls, and themselves."""
        for slot in self._slots.values():
            slot.lifeline.close()
        for pid in list(self._slots):
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            self.reaped(pid)
        if self._groups is not None:
            self._groups.remove()

    def _become_jailer(
        self,
        number: int,
        control: int,
        work: int,
        lifeline: int,
        jail: Jail | BubblewrapJail,
        orders: dict[str, Any] | None,
    ) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            os.setsid()
            kept = sorted({control, work, lifeline, *(jail.group.descriptors if jail.group else ())})
            for low, high in zip([2, *kept], [*kept, MAX_FILES], strict=True):
                os.closerange(low + 1, high)
            sockets = (socket.socket(fileno=control), socket.socket(fileno=work))
            run: Run = child.run
            if isinstance(jail, BubblewrapJail):
                run = bubblewrap.run
            Jailer(number, *sockets, lifeline, jail, orders, run).serve(self._tools)
        except BaseException:
            # Said on the service's own error output; the service hears that the slot is gone.
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(1)


def set_up(max_file_bytes: int) -> None:
    """What is the same for every slot and inherited, so set once."""
    # What a tool leaves behind comes back to us to be reaped, instead of to whoever is process 1.
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    kernel.drop_bounding_set()
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
        (resource.RLIMIT_FSIZE, max_file_bytes),
        (resource.RLIMIT_MEMLOCK, 65_536),
        (resource.RLIMIT_MSGQUEUE, 0),
        # Counted for all of a user: what one call queues, another and the service lack.
        (resource.RLIMIT_SIGPENDING, _MAX_SIGNALS),
        (resource.RLIMIT_NICE, 0),
        (resource.RLIMIT_RTPRIO, 0),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def tasks_of(uid: int) -> int:
    """How many tasks (threads count) the user has now."""
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if process.stat().st_uid == uid:
                    count += sum(1 for _ in (process / "task").iterdir())
    return count
