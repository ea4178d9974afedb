"""Namespaces for a jailer: it becomes process 1 of its own, and sees a file system that holds only what tools need.

Sources: namespaces(7), user_namespaces(7), pid_namespaces(7), pivot_root(2), mount_setattr(2). An ordinary user needs
a user namespace for the others; root takes them without one, which leaves the kernel's code for it out of reach.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pagi_sandbox.zygote import kernel

_MOUNT, _CGROUP, _UTS, _IPC, _USER, _PID, _NET = (
    0x20000,
    0x02000000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_NOSUID, _NODEV, _NOEXEC, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_DETACH = 2
# MOUNT_ATTR_RDONLY, and no set-user-id programs and devices.
READ_ONLY = 1 | _NOSUID | _NODEV
_DEVICES = ("null", "zero", "full", "random", "urandom")
# Where the machine's own file system hangs while the jailer's is built; each child takes it away from itself.
HOST = "/.host"
WORKSPACE = "/workspace"


def clone(*, network: bool) -> int:
    """Like os.fork(), with the child in namespaces of its own.

    Not unshare(2) and a second fork: this way the fork server knows the jailer by its number. The C library's note of
    the thread's number is stale in the child; it matters for raise() and abort() only, and the jailer's own children
    come from os.fork(), which puts it right.

    Raises:
        OSError: the system does not grant it.
    """
    flags = _MOUNT | _CGROUP | _UTS | _IPC | _PID | (0 if network else _NET)
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        flags |= _USER
    kernel.before_fork()
    try:
        pid = kernel.syscall("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    except OSError:
        kernel.after_fork(child=False)
        raise
    kernel.after_fork(child=pid == 0)
    if pid == 0 and user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return pid


def build_root(at: str, read_only: Sequence[str], tmp: str) -> None:
    """Replaces the file system by one with `read_only` paths, /dev, /proc, an empty `tmp` and an empty workspace.

    Args:
        at: an empty directory to build it on.
        read_only: absolute paths; files or directories.
        tmp: where each call's private folder for temporary files will be.

    Raises:
        OSError: mounts do not work here.
    """
    os.umask(0o022)
    kernel.mount("none", "/", "", _RECURSIVE | _PRIVATE)
    real = {path: os.path.realpath(path) for path in read_only}
    links = {
        path: Path(path).readlink() for path in read_only if Path(path).is_symlink() and Path(path).parent == Path("/")
    }
    kernel.mount("tmpfs", at, "tmpfs", _NOSUID | _NODEV, "size=4m,mode=755")
    Path(at + HOST).mkdir(mode=0o700)
    kernel.syscall("pivot_root", at.encode(), (at + HOST).encode())
    os.chdir("/")
    for path, source in real.items():
        if path in links:
            Path(path).symlink_to(links[path])
        else:
            _bind(HOST + source, path)
    Path("/dev").mkdir()
    for device in _DEVICES:
        _bind(f"{HOST}/dev/{device}", f"/dev/{device}", read_only=False)
    for name, target in {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        Path(f"/dev/{name}").symlink_to(target)
    for directory in ("/proc", tmp, WORKSPACE):
        Path(directory).mkdir(exist_ok=True)
    # What asks for shared memory gets the call's private, bounded folder.
    Path("/dev/shm").symlink_to(tmp)  # noqa: S108
    kernel.mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)


def enter_mounts(workspace: str | None, tmp: str, tmp_bytes: int) -> None:
    """In a child, in a mount namespace of its own: its workspace, its `tmp`, and nothing of the machine any more."""
    options = f"size={tmp_bytes},nr_inodes={max(1024, tmp_bytes >> 12)},mode=1777"
    kernel.mount("tmpfs", tmp, "tmpfs", _NOSUID | _NODEV, options)
    if workspace is not None:
        kernel.mount(HOST + workspace, WORKSPACE, "", _BIND)
        restrict(WORKSPACE, _NOSUID | _NODEV)
    kernel.syscall("umount2", HOST.encode(), _DETACH)


def return_to(mounts: int) -> None:
    """Enters a mount namespace again."""
    kernel.syscall("setns", mounts, _MOUNT)


def own_mounts() -> None:
    """A mount namespace of its own for this process."""
    kernel.syscall("unshare", _MOUNT)


def _bind(source: str, target: str, *, read_only: bool = True) -> None:
    place = Path(target)
    with suppress(FileExistsError):
        if Path(source).is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    kernel.mount(source, target, "", _BIND | _RECURSIVE)
    if read_only:
        restrict(target, READ_ONLY)


def restrict(target: str, attributes: int) -> None:
    """Adds attributes to a mount and those below; those that a namespace may not take away stay (mount_setattr(2))."""
    wanted = struct.pack("=QQQQ", attributes, 0, 0, 0)
    kernel.syscall("mount_setattr", -100, target.encode(), 0x8000, wanted, len(wanted))
