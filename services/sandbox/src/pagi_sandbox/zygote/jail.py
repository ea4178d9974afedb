"""What a jailer and its children take off: the order in which every layer is put on, and why that order."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagi_sandbox.zygote import kernel, landlock, namespaces, seccomp, sight
from pagi_sandbox.zygote.cgroups import Group

# What a child for pure tools may take beside what it has from the fork server.
PURE_BYTES = 64 * 2**20
# Tasks of the service's user besides those at the start, where they count against a call: slots and other calls.
_OTHERS = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """Which layers there are.

    Attributes:
        profile: the name of the whole, L0 to L3.
        landlock: the ABI; 0 where there is none.
        seccomp: whether the filter can be loaded.
        namespaces: whether jailers are process 1 of their own.
        own_user: whether each call has a user of its session's.
        groups: whether totals are counted.
        scratch: a folder of the fork server's, for private /tmp directories and mount points.
        bubblewrap: what each call is started with instead of being forked; None for a jail of our own making.
    """

    profile: str = "L0"
    landlock: int = 0
    seccomp: bool = False
    namespaces: bool = False
    own_user: bool = False
    groups: bool = False
    scratch: str = ""
    bubblewrap: Bubblewrap | None = None


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """How a call is started by bubblewrap.

    Attributes:
        program: its path.
        tools: JSON for the program inside: where it finds the tools, see within.py.
    """

    program: str
    tools: str


class Jail:
    """The layers of one slot.

    Attributes:
        plan: which there are.
        group: the slot's control group.
        folder: its folder for temporary files, where that lies on a disk; known in the jailer.
        inside: the same, in memory, where nobody bounds its names.
        keepers: tasks below the jailer that are not the call's.
        refuse: in a child, what tells the service that it could not put them on.
    """

    folder = ""
    inside = ""
    keepers = 0

    def __init__(self, plan: Plan, *, network: bool, group: Group | None, tasks: int) -> None:
        """Built in the fork server.

        Args:
            plan: the layers.
            network: whether sockets may be made.
            group: the slot's control group.
            tasks: how many tasks the service's user has already, where the kernel counts those too.
        """
        self.plan = plan
        self.group = group
        self._network = network
        self._others = tasks + _OTHERS
        self._visible = sight.read_only(network=network)
        # Where modes are real, the jailer can do its work under the filter too, and loads it for all of its children.
        own_files = plan.namespaces or plan.own_user
        options = seccomp.FilterOptions(network=network, own_files=own_files, to_be_closed=True, of_jailer=own_files)
        self._is_shared = own_files
        self._program = seccomp.build(options) if plan.seccomp else b""
        self._closing = seccomp.close() if plan.seccomp else b""
        # Hidden under a private /tmp, an interpreter that lives there would be out of reach.
        taken = any(path.startswith("/tmp/") for path in self._visible)  # noqa: S108
        self._tmp = "/private-tmp" if taken else "/tmp"  # noqa: S108
        self.refuse: Callable[[], None] = lambda: None
        self._places: list[bytes] = []
        self._rules: landlock.Ruleset | None = None
        self._mounts = -1

    # In the jailer.

    def enter_as_jailer(self, slot: int) -> None:
        """What holds the jailer itself, and what it does once for all its calls.

        Raises:
            OSError: a layer of the plan is not to be had after all.
        """
        self._pid = os.getpid()
        self._scratch = str(Path(self.plan.scratch) / f"slot-{slot}")
        self.folder = "" if self.plan.namespaces else self._scratch
        if self.group is not None:
            self.group.join()
        if self.plan.namespaces:
            namespaces.build_root(self._scratch, self._visible, self._tmp)
            kernel.drop_bounding_set()
        elif self.plan.landlock >= landlock.SCOPED:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            landlock.enter_scope(self.plan.landlock)
        if self.plan.landlock:
            # Rules hold for files, not for names, so that the places can be opened once.
            self._open(self._visible, landlock.READ)
            self._open(sight.DEVICES[:3], landlock.READ_FILE | landlock.WRITE_FILE)
            self._open(sight.DEVICES[3:], landlock.READ_FILE)
            if not self.plan.namespaces:
                self._open(sight.PROC[1:], landlock.READ_FILE)
        if self._program and self._is_shared:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load(self._program)

    def new_mounts(self) -> None:
        """Before each fork: mounts for the child's use, without those of the last one.

        The child shares them with the jailer, which gives them up when it makes the next ones. Were they the child's
        alone, its end would wait half a millisecond for the kernel to take them down.
        """
        if self.plan.namespaces:
            if self._mounts < 0:
                self._mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            else:
                namespaces.return_to(self._mounts)
            namespaces.own_mounts()

    def kill_reaches_only_the_call(self) -> bool:
        """Seen by trying, because kill(-1) in the wrong place would end everything that this user has."""
        if self.plan.namespaces:
            return os.getpid() == 1
        if self.plan.landlock < landlock.SCOPED:
            return False
        try:
            os.kill(os.getppid(), 0)
        except PermissionError:
            return True
        return False

    def ending(self, status: int) -> tuple[int, bool]:
        """What the child's wait status says of the tool's end, and whether its layers were on, as far as seen here."""
        return status, True

    def _open(self, paths: list[str] | tuple[str, ...], access: int) -> None:
        for path in paths:
            with suppress(FileNotFoundError, PermissionError):
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
                self._places.append(landlock.rule(place, access, self.plan.landlock))

    # In the child, before it has work.

    def prepare(self) -> dict[str, str]:
        """All that needs no knowledge of the call.

        Returns:
            The environment for what the tool starts.

        Raises:
            OSError: a layer of the plan is not to be had after all.
        """
        os.setsid()
        if self.plan.landlock:
            self._rules = landlock.Ruleset(self.plan.landlock, tcp=not self._network)
            self._rules.add(self._places)
            self._allow_proc(self._rules)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if self._program and not self._is_shared:
            seccomp.load(self._program)
        tmp = self._tmp_folder()
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": tmp, "TMPDIR": tmp, "LANG": "C.UTF-8"}

    def _allow_proc(self, rules: landlock.Ruleset) -> None:
        if self.plan.namespaces:
            rules.allow("/proc", landlock.READ)
            return
        rules.allow("/proc/self", landlock.READ_DIR)
        for name in sight.OWN:
            rules.allow(f"/proc/self/{name}", landlock.READ_FILE)

    def _tmp_folder(self) -> str:
        return self._tmp if self.plan.namespaces else self._scratch

    # In the child, once it knows its orders and before it reads what a model wrote.

    def enter(self, orders: dict[str, Any]) -> None:
        """Puts everything on, for good.

        First what needs the privileges (mounts, group, user), then what takes them away, last the rest of the filter,
        which forbids the former.

        Raises:
            OSError: a layer of the plan cannot be put on; nothing of the tool has run then.
        """
        workspace, user = orders["workspace"], orders["user"] if self.plan.own_user else 0
        os.umask(0o077)
        if self.group is not None:
            self.group.limit(orders["memory_bytes"] or PURE_BYTES, orders["processes"])
        self._reach(workspace, user, orders)
        limit(orders, self._more_tasks())
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            # The kernel had made it 0 and cleared the other with the change of user.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        if os.getppid() != self._pid:
            os._exit(1)  # the jailer died before we could ask to be told
        if self._rules is not None:
            self._rules.enforce()
        kernel.drop_capabilities()
        if self._closing:
            seccomp.load(self._closing)

    def _reach(self, workspace: str | None, user: int, orders: dict[str, Any]) -> None:
        """Makes workspace and /tmp reachable and nothing else; the current directory is then the workspace."""
        tmp = self._tmp_folder()
        if workspace is not None and user:
            own_workspace(namespaces.HOST + workspace if self.plan.namespaces else workspace, user)
        if self.plan.namespaces:
            namespaces.enter_mounts(workspace, tmp, orders["disk_bytes"])
        elif user:
            os.chown(tmp, user, user)
        os.chdir("/" if workspace is None else namespaces.WORKSPACE if self.plan.namespaces else workspace)
        if self._rules is not None:
            self._rules.allow(tmp, landlock.READ_WRITE)
            if workspace is not None:
                self._rules.allow(".", landlock.READ_WRITE if orders["writes"] else landlock.READ)

    def _more_tasks(self) -> int:
        """The kernel counts all tasks of a user in its user namespace: ours are there too, unless it has its own."""
        return 0 if self.plan.own_user else 1 if self.plan.namespaces else self._others


def limit(orders: dict[str, Any], more_tasks: int) -> None:
    """Sets the limits that the kernel keeps for each process.

    Args:
        orders: the call's.
        more_tasks: how many tasks that are not the call's count against its processes.

    Raises:
        OSError, ValueError: the kernel does not take one.
    """
    memory, seconds = orders["memory_bytes"] or _address_space() + PURE_BYTES, orders["cpu_seconds"]
    # The soft limit of the CPU ends the call with SIGXCPU, which is told apart from a crash; the hard one ends what
    # ignores that. Wall time is the service's to watch; this holds even where the service is gone.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    files = orders["disk_bytes"]
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    files = files if hard == resource.RLIM_INFINITY else min(files, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))
    if orders["processes"]:
        most = orders["processes"] + more_tasks
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def own_workspace(workspace: str, user: int) -> None:
    """Gives the workspace's own directory to the session's user.

    Below it nothing is ever touched: what lies there may be a link by the time one gets to it.
    """
    descriptor = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != user:
            os.fchown(descriptor, user, user)
    finally:
        os.close(descriptor)


def _address_space() -> int:
    """What this process has mapped, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
