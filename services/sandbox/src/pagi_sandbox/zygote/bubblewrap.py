"""bubblewrap (https://github.com/containers/bubblewrap) as what isolates a call, with our filter and our limits.

The jailer and the way of a call are those of the native jail. Its child takes the orders as there, but then becomes
`bwrap`, which makes the namespaces and a file system of what a tool may see, and starts within.py in it. So each call
pays for an interpreter of its own; bubblewrap has to know the workspace before it starts anything.

What most callers of bubblewrap leave open is closed here: its root and /dev are read only and small, /tmp has a size,
its arguments come over a descriptor, and never is it started as root (which would leave /proc/sys writable) or with an
environment worth reading.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.zygote import child, kernel, namespaces, seccomp, sight
from pagi_sandbox.zygote.cgroups import Group
from pagi_sandbox.zygote.jail import PURE_BYTES, Bubblewrap, Plan, own_workspace

# What passes from the program inside to the jailer: that every layer is on, then how the tool's process ended.
JAILED, ENDED = b"J", struct.Struct("<i")
# Descriptors of the program inside: the call's socket, its output, its errors, and the way to the jailer.
CALL, STDOUT, STDERR, REPORT = 3, 4, 5, 6
_ARGUMENTS, _FILTER, _FREE = 7, 8, 16
# What bwrap and the process 1 inside take.
_KEEPERS_BYTES = 32 * 2**20
_NEW_MOUNTS = 0x20000
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_PATH = "/usr/local/bin:/usr/bin:/bin"


class BubblewrapJail:
    """The layers of one slot; see Jail for what each attribute and method is for."""

    folder = ""
    keepers = 2  # bwrap itself, and the process 1 inside

    def __init__(self, plan: Plan, *, network: bool, group: Group | None) -> None:
        """Built in the fork server."""
        assert plan.bubblewrap is not None
        self.plan = plan
        self.group = group
        self._bubblewrap: Bubblewrap = plan.bubblewrap
        self._network = network
        self._visible = sight.read_only(network=network)
        self._program = seccomp.build(seccomp.FilterOptions(network=network, own_files=True, to_be_closed=True))
        taken = any(path.startswith("/tmp/") for path in self._visible)  # noqa: S108
        self.inside = "/private-tmp" if taken else "/tmp"  # noqa: S108
        self.refuse: Callable[[], None] = lambda: None
        self._staged: dict[str, str] = {}
        self._report, self._their_report = -1, -1

    # In the jailer.

    def enter_as_jailer(self, slot: int) -> None:
        """Joins the slot's group, and puts what the tool may see where the session's user can reach it."""
        self._pid = os.getpid()
        self._scratch = Path(self.plan.scratch, f"slot-{slot}")
        if self.group is not None:
            self.group.join()
        if self.plan.own_user:
            self._scratch.chmod(0o711)
            # An interpreter below /root is out of reach for other users, and bwrap runs as one. Where mounts are not
            # granted to root, what cannot be reached is not there, and the canary says so.
            with suppress(PermissionError):
                kernel.syscall("unshare", _NEW_MOUNTS)
                kernel.mount("none", "/", "", _RECURSIVE | _PRIVATE)
                kernel.mount("tmpfs", str(self._scratch), "tmpfs", 0, "size=1m,mode=711")
                for number, path in enumerate(self._visible):
                    self._staged[path] = self._stage(os.path.realpath(path), f"seen-{number}")
                    namespaces.restrict(self._staged[path], namespaces.READ_ONLY)

    def new_mounts(self) -> None:
        """Before each fork: a new way for the program inside to report."""
        for old in (self._report, self._their_report):
            if old >= 0:
                os.close(old)
        self._report, self._their_report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def kill_reaches_only_the_call(self) -> bool:
        """The end of bwrap ends its process 1, and so all of its process namespace; there is nothing else to reach."""
        return False

    def ending(self, status: int) -> tuple[int, bool]:
        """The wait status of the tool's process, of which that of bwrap tells only a number."""
        try:
            told = os.read(self._report, 64)
        except BlockingIOError:
            told = b""
        if len(told) >= len(JAILED) + ENDED.size:
            return int(ENDED.unpack_from(told, len(JAILED))[0]), True
        if os.WIFSIGNALED(status):
            return status, True
        if not told:
            return status, False
        # The process 1 inside was ended by somebody; bwrap says by which signal.
        code = os.WEXITSTATUS(status)
        return (code - 128 if code > 128 else status), True

    # In the child.

    def become(self, orders: dict[str, Any], descriptors: Sequence[int], *, pure: bool) -> NoReturn:
        """Turns the process into bwrap, as the session's user.

        Args:
            orders: of the call.
            descriptors: the call's socket, its output and its errors.
            pure: whether it serves many calls, see child.py.

        Raises:
            OSError: it cannot be started.
        """
        workspace, user = orders["workspace"], orders["user"] if self.plan.own_user else 0
        if self.group is not None:
            memory = orders["memory_bytes"] or PURE_BYTES
            processes = orders["processes"] and orders["processes"] + self.keepers
            self.group.limit(memory + _KEEPERS_BYTES, processes)
        if workspace is not None and user:
            own_workspace(workspace, user)
        arguments = self._arguments(workspace, orders)
        _place([*descriptors, self._their_report, _written(b"\0".join(arguments) + b"\0"), _written(self._program)])
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        if os.getppid() != self._pid:
            os._exit(1)  # the jailer died before we could ask to be told
        inside = [sys.executable, "-I", "-X", "utf8", "-m", "pagi_sandbox.zygote.within", self._told(orders, pure)]
        environment = {"PATH": _PATH, "HOME": self.inside, "TMPDIR": self.inside, "LANG": "C.UTF-8"}
        command = [self._bubblewrap.program, "--args", str(_ARGUMENTS), "--", *inside]
        os.execve(command[0], command, environment)  # noqa: S606 what this jail is made of

    def _told(self, orders: dict[str, Any], pure: bool) -> str:
        keys = ("memory_bytes", "cpu_seconds", "disk_bytes", "processes", "writes", "workspace")
        told = {key: orders[key] for key in keys} | {"workspace": orders["workspace"] is not None}
        told |= {"pure": pure, "network": self._network, "landlock": self.plan.landlock, "tmp": self.inside}
        return json.dumps(told | {"tools": json.loads(self._bubblewrap.tools)})

    def _arguments(self, workspace: str | None, orders: dict[str, Any]) -> list[bytes]:
        size = max(orders["disk_bytes"], 2**16)
        found = ["--unshare-all", "--die-with-parent", "--as-pid-1", "--hostname", "sandbox"]
        found += ["--share-net"] if self._network else []
        for path in self._visible:
            if Path(path).is_symlink() and Path(path).parent == Path("/"):
                found += ["--symlink", str(Path(path).readlink()), path]
            else:
                found += ["--ro-bind", self._staged.get(path) or os.path.realpath(path), path]
        found += ["--size", "65536", "--tmpfs", "/dev"]
        for device in sight.DEVICES:
            found += ["--dev-bind", device, device]
        for name, target in {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
            found += ["--symlink", target, f"/dev/{name}"]
        # What asks for shared memory gets the call's private, bounded folder.
        found += ["--symlink", self.inside, "/dev/shm", "--remount-ro", "/dev", "--proc", "/proc"]  # noqa: S108
        found += ["--perms", "1777", "--size", str(size), "--tmpfs", self.inside]
        if workspace is not None:
            bind = "--bind" if orders["writes"] else "--ro-bind"
            source = self._own_stage(workspace) if self._staged else workspace
            found += [bind, source, namespaces.WORKSPACE, "--chdir", namespaces.WORKSPACE]
        found += ["--remount-ro", "/", "--seccomp", str(_FILTER)]
        return [os.fsencode(one) for one in found]

    def _own_stage(self, workspace: str) -> str:
        """The workspace where its user can reach it, in mounts of this child's own."""
        kernel.syscall("unshare", _NEW_MOUNTS)
        return self._stage(workspace, "workspace")

    def _stage(self, source: str, name: str) -> str:
        place = self._scratch / name
        if Path(source).is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        kernel.mount(source, str(place), "", _BIND | _RECURSIVE)
        return str(place)


def run(
    work: int, generation: int, jail: BubblewrapJail, tools: Mapping[str, Tool], pure_orders: dict[str, Any] | None
) -> NoReturn:
    """What a child does: see child.run. The tools are loaded anew inside, where nothing of this process is left."""
    try:
        os.setsid()
        if pure_orders is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            jail.become(pure_orders, (work, nowhere, nowhere), pure=True)
        orders, descriptors = child.take_work(work, generation)
        if len(descriptors) == len((CALL, STDOUT, STDERR)):
            jail.become(orders, descriptors, pure=False)
    except BaseException:  # noqa: BLE001 said on the service's own error output; nothing of the tool has run
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _written(content: bytes) -> int:
    """A descriptor from which the content can be read."""
    descriptor = os.memfd_create("bubblewrap", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _place(descriptors: Sequence[int]) -> None:
    """Gives them the numbers from CALL on, and leaves nothing else open for the next program."""
    import fcntl

    # First out of the way of each other.
    high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, _FREE) for one in descriptors]
    for number, one in enumerate(high, CALL):
        os.dup2(one, number)
    os.closerange(CALL + len(high), child.MAX_FILES)
