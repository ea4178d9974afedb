"""Landlock: what a process may do with files, TCP ports and the processes outside.

Source: Documentation/userspace-api/landlock.rst. Rules only ever take away, each layer narrows the last. A layer that
handles files but not REFER forbids every rename between directories, so REFER is always handled.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress

from pagi_sandbox.zygote import kernel

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_CHAR, _MAKE_DIR = 1 << 4, 1 << 5, 1 << 6, 1 << 7
_MAKE_REGULAR, _MAKE_SOCKET, _MAKE_FIFO, _MAKE_BLOCK = 1 << 8, 1 << 9, 1 << 10, 1 << 11
_MAKE_SYMLINK, _REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 12, 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
# No devices and no sockets.
READ_WRITE = (
    READ | WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REGULAR | _MAKE_FIFO | _MAKE_SYMLINK
) | (_REFER | _TRUNCATE)
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2
# The ABI from which on a signal cannot leave the domain, so that kill(-1) of a domain reaches it and nothing else.
SCOPED = 6


def abi() -> int:
    """The kernel's version of Landlock; 0 where it has none or it is switched off."""
    try:
        return kernel.syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def _files(version: int) -> int:
    bits = {0: 0, 1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    return (1 << bits) - 1


def rule(descriptor: int, access: int, version: int | None = None) -> bytes:
    """Rights (struct landlock_path_beneath_attr) on what lies at or below an open place.

    Args:
        descriptor: of the place; it has to stay open until the rule is added.
        access: the rights; those that a file cannot have are left out for one.
        version: the ABI, where the rights are to be cut to what it knows.
    """
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        access &= _OF_FILES
    return struct.pack("=Qi", access if version is None else access & _files(version), descriptor)


class Ruleset:
    """Rules in the making; `enforce` puts the process under them."""

    def __init__(self, version: int, *, handled: int | None = None, tcp: bool = True) -> None:
        """Handles all that this version of Landlock can: what no rule allows is denied.

        Args:
            version: the ABI.
            handled: of files, only these rights.
            tcp: ports too.

        Raises:
            OSError: Landlock is not there.
        """
        self._handled = _files(version) if handled is None else handled
        handled_tcp = 3 if tcp and version >= 4 else 0
        scoped = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL if version >= SCOPED else 0
        attributes = struct.pack("=QQQ", self._handled, handled_tcp, scoped)
        size = 24 if version >= SCOPED else 16 if version >= 4 else 8
        self._descriptor = kernel.syscall("landlock_create_ruleset", attributes, size, 0)

    def allow(self, path: str | int, access: int) -> None:
        """Allows what lies at or below a path (or an open directory); one that is not there needs no rule."""
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            descriptor = path if isinstance(path, int) else os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                self.add([rule(descriptor, access & self._handled)])
            finally:
                if descriptor is not path:
                    os.close(descriptor)

    def add(self, rules: Sequence[bytes]) -> None:
        """Adds what `rule` has made; the quick way to many, for a child that makes them anew for each call.

        Raises:
            OSError: the kernel does not take one.
        """
        kernel.repeat("landlock_add_rule", self._descriptor, 1, rules)

    def enforce(self) -> None:
        """Puts the calling thread under the rules, for good; no_new_privs must be set.

        Raises:
            OSError: the kernel does not take them.
        """
        kernel.syscall("landlock_restrict_self", self._descriptor, 0)
        os.close(self._descriptor)


def enter_scope(version: int) -> None:
    """A domain that hides nothing, out of which no signal leads.

    Raises:
        OSError: Landlock is older than ABI 6.
    """
    # A domain that says nothing of renames between folders forbids them to all domains in it.
    rules = Ruleset(version, handled=_REFER, tcp=False)
    rules.allow("/", _REFER)
    rules.enforce()


assert ctypes.sizeof(ctypes.c_long) == 8, "the tables are those of 64-bit machines"
