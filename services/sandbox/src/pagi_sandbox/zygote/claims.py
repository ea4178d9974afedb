"""Folders that a process claims for itself among those of others of its kind, and those that nobody claims any more.

The name is nobody else's, and a lock says that its owner lives (flock(2)): a process number says neither where two
sandboxes have process namespaces of their own and one folder, as two containers may.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pagi_sandbox.zygote import kernel

_PREFIX = "pagi-sandbox-"
# flock(2), not by the module fcntl: each that is loaded makes each fork slower.
_EXCLUSIVE, _AT_ONCE = 2, 4
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def new_name() -> str:
    """For a folder; begins with our process number, for people."""
    return f"{_PREFIX}{os.getpid()}-{os.urandom(6).hex()}"


def make(folder: Path, mode: int = 0o777) -> int:
    """Makes a folder and claims it.

    Returns:
        A descriptor; the claim ends when nobody has it open any more.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        folder.mkdir(mode=mode)
        descriptor = os.open(folder, _OPEN)
        kernel.syscall("flock", descriptor, _EXCLUSIVE)
        if os.fstat(descriptor).st_nlink and folder.exists():
            return descriptor
        os.close(descriptor)  # taken for abandoned before we had claimed it


def abandoned(parent: Path) -> Iterator[Path]:
    """The folders of owners that are gone, each claimed for the time of a step: to be taken away."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        try:
            descriptor = os.open(folder, _OPEN)
        except OSError:
            continue  # gone meanwhile, or not ours
        try:
            kernel.syscall("flock", descriptor, _EXCLUSIVE | _AT_ONCE)
        except OSError:
            pass  # its owner lives
        else:
            if os.fstat(descriptor).st_uid == os.geteuid():
                yield folder
        finally:
            os.close(descriptor)
