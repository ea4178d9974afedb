"""Control groups: totals for everything that a call starts, where root or a delegated subtree allows them.

Sources: Documentation/admin-guide/cgroup-v2.rst ("Delegation", "No Internal Process Constraint", memory.events,
pids.events, cpu.stat) and cgroup-v1/{memory,pids,cpuacct}.rst. A slot has one group for all its calls, one after the
other; its jailer is in it from the start, because moving a process between groups is slow.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pagi_sandbox.zygote import claims

# What the jailer and the child need before any code of a tool runs.
OWN_BYTES = 24 * 2**20


@dataclass(frozen=True, slots=True)
class Names:
    """What the files are called in a version of the interface."""

    memory: str
    memory_events: str
    processes: str
    process_events: str
    processor: str
    swap: str


_V2 = Names("memory.max", "memory.events", "pids.max", "pids.events", "cpu.stat", "memory.swap.max")
_V1 = Names(
    "memory.limit_in_bytes", "memory.oom_control", "pids.max", "pids.events", "cpuacct.usage", "memory.swappiness"
)


class Group:
    """The group of one slot. Its files are opened once: a jailer with a file system of its own cannot reach them."""

    def __init__(self, directories: dict[str, Path], names: Names) -> None:
        """Makes the group.

        Raises:
            OSError: it is not ours to make.
        """
        self._directories = directories
        for directory in directories.values():
            directory.mkdir(exist_ok=True)
        # What is swapped out, the limit of memory does not count. Where nothing is ever, the file may be missing.
        with suppress(OSError):
            (directories["memory"] / names.swap).write_text("0")
        self._joins = [os.open(one / "cgroup.procs", os.O_WRONLY) for one in directories.values()]
        self._memory = os.open(directories["memory"] / names.memory, os.O_WRONLY)
        self._processes = os.open(directories["pids"] / names.processes, os.O_WRONLY)
        self._events = [
            (os.open(directories["memory"] / names.memory_events, os.O_RDONLY), b"oom_kill "),
            (os.open(directories["pids"] / names.process_events, os.O_RDONLY), b"max "),
        ]
        self._processor = _open_if_there(directories.get("cpuacct", directories["memory"]) / names.processor)
        self.descriptors = [*self._joins, self._memory, self._processes, *(one for one, _ in self._events)]
        self.descriptors += [self._processor] if self._processor >= 0 else []

    def join(self) -> None:
        """Moves this process, and so all that it forks, into the group."""
        for descriptor in self._joins:
            os.pwrite(descriptor, b"0", 0)

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Sets the totals for the call that begins."""
        os.pwrite(self._memory, str(memory_bytes + OWN_BYTES).encode(), 0)
        os.pwrite(self._processes, str(processes + 1).encode() if processes else b"max", 0)

    def events(self) -> tuple[int, int]:
        """How often so far a process was ended for memory, and a fork or thread refused."""
        memory, processes = (_count(os.pread(descriptor, 4096, 0), name) for descriptor, name in self._events)
        return memory, processes

    def processor_ms(self) -> float | None:
        """Processor time of all that were ever in it, in milliseconds; None where the kernel does not count it here."""
        if self._processor < 0:
            return None
        text = os.pread(self._processor, 4096, 0)
        # Version 2 has a file of names and microseconds, version 1 a number of nanoseconds.
        return _count(text, b"usage_usec ") / 1e3 if text.startswith(b"usage_usec") else int(text) / 1e6

    def close(self) -> None:
        """Gives the descriptors back."""
        for descriptor in self.descriptors:
            os.close(descriptor)

    def remove(self) -> None:
        """Takes the empty group away; one that is not empty yet is left for the next sweep."""
        for directory in self._directories.values():
            with suppress(OSError):
                directory.rmdir()


class Groups:
    """Where the groups of slots are made: below one folder of this fork server's in each hierarchy."""

    def __init__(self, parents: dict[str, Path], names: Names) -> None:
        """`parents`: a folder for each of memory, pids and, where there is one, cpuacct; made here.

        Raises:
            OSError: they are not ours to make, or the controllers cannot be had in them.
        """
        self._names = names
        self.where = ", ".join(sorted({str(path) for path in parents.values()}))
        name = claims.new_name()
        self._folders = {controller: parent / name for controller, parent in parents.items()}
        for parent in set(parents.values()):
            _sweep(parent)
        if names is _V2:
            _enable(next(iter(parents.values())))
        # Held until our end.
        self._held = [claims.make(folder) for folder in set(self._folders.values())]
        if names is _V2:
            _enable(self._folders["memory"])

    def group(self, number: int) -> Group:
        """A new group for a slot."""
        return Group({name: folder / f"slot-{number}" for name, folder in self._folders.items()}, self._names)

    def remove(self) -> None:
        """Takes the folders away."""
        for folder in set(self._folders.values()):
            with suppress(OSError):
                folder.rmdir()
        while self._held:
            os.close(self._held.pop())


def find(delegated: str) -> Groups:
    """The first place where groups can be made.

    Args:
        delegated: a cgroup v2 folder that the operator gives us; empty: our own group, and as root the top.

    Raises:
        OSError: there is none; says why the last one did not do.
    """
    failure: OSError = PermissionError("no cgroup hierarchy is mounted")
    for parents, names in _places(delegated):
        try:
            return Groups(parents, names)
        except OSError as error:
            failure = error
    raise failure


def _places(delegated: str) -> list[tuple[dict[str, Path], Names]]:
    if delegated:
        return [({"memory": Path(delegated), "pids": Path(delegated)}, _V2)]
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    mounts: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            mounts[""] = Path(left.split()[4])
        elif kind == "cgroup":
            mounts |= dict.fromkeys(options.split(","), Path(left.split()[4]))
    places: list[tuple[dict[str, Path], Names]] = []
    if "" in mounts:
        tops = [mounts[""] / own.get("", "")] + ([mounts[""]] if os.geteuid() == 0 else [])
        places += [({"memory": top, "pids": top}, _V2) for top in tops]
    if "memory" in mounts and "pids" in mounts:
        found: dict[str, Path] = {}
        found |= {name: mounts[name] / own.get(name, "") for name in ("memory", "pids", "cpuacct") if name in mounts}
        # What counts processor time may be closed to us where the others are not.
        places += [(found, _V1), ({name: found[name] for name in ("memory", "pids")}, _V1)]
    return places


def _enable(folder: Path) -> None:
    (folder / "cgroup.subtree_control").write_text("+memory +pids")


def _sweep(parent: Path) -> None:
    """Takes away what fork servers that are gone left behind."""
    for folder in claims.abandoned(parent):
        for one in (*folder.glob("slot-*"), folder):
            with suppress(OSError):
                one.rmdir()


def _open_if_there(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return -1


def _count(text: bytes, name: bytes) -> int:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
