"""The jail of a server that lives long: which layers the system grants it, and the order in which they are put on.

Its layers are those of a call's jail, without the warm fork: the server is a program of the operator's choice, which is
started once. It has a user of its own where the service is root, namespaces where a mount works in them, a control
group where one is granted, and what it may see is held by Landlock in any case.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
from contextlib import suppress
from typing import Any, NoReturn

from pagi_sandbox.zygote import cgroups, kernel, landlock, namespaces, seccomp, server_mounts, sight
from pagi_sandbox.zygote.jail import own_workspace
from pagi_sandbox.zygote.profile import GET_NAMESPACES, find_users
from pagi_sandbox.zygote.slots import tasks_of

_MAX_FILES = 1024
_MAX_FILE_BYTES = 2**30
_TASKS = 256
# A server that is busy for nothing comes after what answers calls.
_NICE = 5
_STARTED = b"+"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ServerJail:
    """The layers of one server."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Finds what the system grants.

        Args:
            options: "argv", "cwd" and "home" of the server; "read" and "write", absolute paths; "network", whether it
                may use it; "memory_bytes" of each process, or of all where they are counted; "user", a number of its
                own or 0; "cgroup", a delegated folder or empty; "minimum", the least profile to start it under;
                "report", a descriptor on which the layers are told.
        """
        self._options = options
        self._keeper = os.getpid()
        self._network: bool = options["network"]
        self._landlock = landlock.abi()
        self._namespaces = False
        self._why: dict[str, str] = {}
        self._own_user = self._find_user()
        self._groups: cgroups.Groups | None = None
        self._group: cgroups.Group | None = None
        self._find_group()
        # Whether kill(-1) reaches the server's tree and nothing else.
        self.exact = False

    def _find_user(self) -> bool:
        user = self._options["user"]
        found, self._why["user per server"] = find_users([user, user] if user else [])
        prepare_home(self._options["home"], user if found else os.geteuid())
        return found

    def _find_group(self) -> None:
        try:
            self._groups = cgroups.find(self._options["cgroup"])
            self._group = self._groups.group(0)
            self._group.limit(self._options["memory_bytes"], _TASKS)
        except OSError as error:
            self._why["cgroups"] = f"{error.strerror or error}; run as root, or delegate a folder: SANDBOX_CGROUP"
            self.remove()

    def remove(self) -> None:
        """Once all has ended: takes its control group away."""
        if self._group is not None:
            self._group.close()
            self._group.remove()
        if self._groups is not None:
            self._groups.remove()
        self._group = self._groups = None

    def tell_why(self) -> None:
        """What ended the server, where only the control group knows."""
        if self._group is not None:
            memory, tasks = self._group.events()
            if memory:
                limit = self._options["memory_bytes"] >> 20
                os.write(2, f"it wanted more than its {limit} MiB of memory, and was ended for it\n".encode())
            if tasks:
                os.write(2, f"it wanted more than its {_TASKS} processes and threads\n".encode())

    # The keeper's part.

    def start(self) -> int:
        """Starts the server; the number of the process whose end is the server's."""
        try:
            return self._in_namespaces()
        except OSError as error:
            self._why["namespaces"] = f"{error}; {GET_NAMESPACES}"
        if self._own_user and not self._can_reach():
            self._own_user = False
            prepare_home(self._options["home"], os.geteuid())
            self._why["user per server"] = (
                "its program, or its directory, is below a directory that other users cannot enter, "
                "and there are no namespaces to show it in"
            )
        if self._landlock >= landlock.SCOPED:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            landlock.enter_scope(self._landlock)
            self.exact = True
        pid = os.fork()
        if pid == 0:
            if self._group is not None:
                self._group.join()
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._keeper:
                os._exit(1)
            self._become()
        return pid

    def _in_namespaces(self) -> int:
        """Process 1 of namespaces in which the server runs.

        Raises:
            OSError: they, or the mounts in them, are not granted.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC)
        lifeline, held = os.pipe2(os.O_CLOEXEC)
        try:
            pid = namespaces.clone(network=self._network)
            if pid == 0:
                os.close(held)
                self._be_first(lifeline, writing)
        except OSError as error:
            if os.getpid() != self._keeper:
                os.write(writing, str(error).encode())
                os._exit(1)
            raise
        os.close(writing)
        os.close(lifeline)
        told = os.read(reading, 1000)
        os.close(reading)
        if told == _STARTED:
            # `held` stays open as long as this process lives.
            return pid
        os.close(held)
        os.waitpid(pid, 0)
        raise OSError(told.decode(errors="replace") or "they cannot be set up")

    def _can_reach(self) -> bool:
        options = self._options
        pid = os.fork()
        if pid == 0:
            try:
                self._become_user()
                there = os.access(options["argv"][0], os.R_OK | os.X_OK) and os.access(options["cwd"], os.X_OK)
                os._exit(0 if there and os.access(options["home"], os.W_OK | os.X_OK) else 1)
            finally:
                os._exit(1)
        return os.waitpid(pid, 0)[1] == 0

    # Process 1's part.

    def _be_first(self, lifeline: int, started: int) -> NoReturn:
        """Makes the file system, starts the server, and reaps until it ends; the kernel ends the rest with us."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([lifeline], [], [], 0)[0]:
            os._exit(1)  # the keeper died before we could ask to be told
        if self._group is not None:
            self._group.join()
        options = self._options
        server_mounts.build(
            sight.read_only(network=self._network), options["read"], options["write"], options["memory_bytes"] // 4
        )
        self._namespaces = True
        os.write(started, _STARTED)
        server = os.fork()
        if server == 0:
            self._become()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2, options["report"]):
            os.dup2(nothing, descriptor)
        # Neither our memory nor our descriptors are the server's to open, whoever it runs as.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.drop_capabilities()
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == server:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)

    # The server's part.

    def _become(self) -> NoReturn:
        options = self._options
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            os.umask(0o077)
            os.chdir(options["cwd"])
            self._limit()
            if self._own_user:
                self._become_user()
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            self._confine()
            kernel.drop_capabilities()
            own_files = self._namespaces or self._own_user
            program = seccomp.build(seccomp.FilterOptions(network=self._network, own_files=own_files))
            if program:
                seccomp.load(program)
            layers = self._layers(filtered=bool(program))
            self._check(layers)
            os.write(options["report"], json.dumps(layers).encode())
            os.set_inheritable(options["report"], False)
            # Python ignores it, and a program that is started would inherit that.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execv(options["argv"][0], options["argv"])  # noqa: S606 the operator's own server
        except Exception as error:  # noqa: BLE001 told to people, by what they read
            os.write(2, f"cannot be started: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(127)

    def _become_user(self) -> None:
        user = self._options["user"]
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)

    def _limit(self) -> None:
        with suppress(PermissionError):
            os.nice(_NICE)
        # The kernel counts a user's tasks in its user namespace: others are there too, unless it has one of its own.
        alone = self._own_user or (self._namespaces and os.geteuid() != 0)
        tasks = _TASKS if alone else tasks_of(os.getuid()) + _TASKS
        for limit, value in (
            # Not the address space: node reserves a hundred times of what it uses.
            (resource.RLIMIT_DATA, self._options["memory_bytes"]),
            (resource.RLIMIT_NOFILE, _MAX_FILES),
            (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
            (resource.RLIMIT_MEMLOCK, 65_536),
            (resource.RLIMIT_NPROC, tasks),
        ):
            _, hard = resource.getrlimit(limit)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (value, value))

    def _confine(self) -> None:
        if not self._landlock:
            return
        rules = landlock.Ruleset(self._landlock, tcp=not self._network)
        proc = ("/proc",) if self._namespaces else sight.PROC
        for path in (*sight.read_only(network=self._network), *proc, *self._options["read"]):
            rules.allow(path, landlock.READ)
        for path in sight.DEVICES:
            rules.allow(path, landlock.READ | landlock.WRITE_FILE)
        for path in (*self._options["write"], *([server_mounts.TMP] if self._namespaces else [])):
            rules.allow(path, landlock.READ_WRITE)
        rules.enforce()

    def _layers(self, *, filtered: bool) -> list[tuple[str, bool, str]]:
        kinds = "mount, pid, ipc, uts, cgroup" + ("" if self._network else ", net")
        network = "sockets are denied" if not self._network else "of sockets, TCP and UDP only"
        return [
            ("process", True, "own session, closed descriptors, its own variables only, resource limits"),
            ("no_new_privs", True, "and no capabilities"),
            (
                "landlock",
                self._landlock > 0,
                f"ABI {self._landlock}" if self._landlock else "the kernel has no Landlock, or it is not in lsm=",
            ),
            ("seccomp", filtered, f"system calls by name; {network}" if filtered else "no table for this processor"),
            ("scoped kill", self._namespaces or self.exact, "its end is that of all that it started"),
            ("user per server", self._own_user, self._why["user per server"] or "a number that no session has"),
            ("namespaces", self._namespaces, self._why.get("namespaces", "") or kinds),
            ("cgroups", self._group is not None, self._why.get("cgroups", "") or "totals for memory and processes"),
        ]

    def _check(self, layers: list[tuple[str, bool, str]]) -> None:
        profile = profile_of({name for name, active, _ in layers if active})
        if profile < self._options["minimum"]:
            missing = "; ".join(f"{name} ({detail})" for name, active, detail in layers if not active)
            raise PermissionError(
                f"its jail would be {profile}, and SANDBOX_MINIMUM_PROFILE asks for {self._options['minimum']}; "
                f"missing: {missing}"
            )


def prepare_home(home: str, user: int) -> None:
    """Gives a server its private directory, with one for temporary files in it.

    It may have put something else in the place of that: nothing is followed, and what is no directory is taken away.

    Raises:
        OSError: the directory cannot be had.
    """
    own_workspace(home, user)
    top = os.open(home, _DIRECTORY)
    try:
        try:
            tmp = os.open("tmp", _DIRECTORY, dir_fd=top)
        except (FileNotFoundError, NotADirectoryError):
            with suppress(FileNotFoundError):
                os.unlink("tmp", dir_fd=top)
            os.mkdir("tmp", 0o700, dir_fd=top)
            tmp = os.open("tmp", _DIRECTORY, dir_fd=top)
        try:
            if os.fstat(tmp).st_uid != user:
                os.fchown(tmp, user, user)
        finally:
            os.close(tmp)
    finally:
        os.close(top)


def profile_of(active: set[str]) -> str:
    """What the layers of a server are together, in the terms of a call's."""
    if "seccomp" not in active:
        return "L0"
    if "namespaces" in active:
        return "L3" if "cgroups" in active else "L2"
    return "L1" if "landlock" in active and active & {"scoped kill", "user per server"} else "L0"
