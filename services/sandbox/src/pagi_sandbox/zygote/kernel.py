"""The kernel by ctypes: calls that Python 3.11 has no name for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from pagi_sandbox.zygote.syscall_numbers import numbers

_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = numbers() | {
    # Same on every architecture: numbers from 424 on are shared.
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "mount_setattr": 442,
}

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47


def syscall(name: str, *arguments: int | ctypes.Array[ctypes.c_char] | bytes | None) -> int:
    """Makes a system call; pointers are given as buffers.

    Raises:
        OSError: with the kernel's errno; ENOSYS where the architecture has no such call in our table.
    """
    number = _NUMBERS.get(name)
    if number is None:
        raise OSError(38, f"{name}: no number for it on this architecture")
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *given)), name)


def repeat(name: str, first: int, second: int, buffers: Sequence[bytes]) -> None:
    """Makes one system call for each buffer: (first, second, buffer, 0), without converting anything twice.

    Raises:
        OSError: with the kernel's errno.
    """
    number, one, two, zero = (ctypes.c_long(value) for value in (_NUMBERS[name], first, second, 0))
    call = _libc.syscall
    for buffer in buffers:
        if call(number, one, two, buffer, zero) == -1:
            _checked(-1, name)


def buffer(size: int) -> ctypes.Array[ctypes.c_char]:
    """Room for a system call's answer, of so many bytes."""
    return ctypes.create_string_buffer(size)


def prctl(option: int, *arguments: int) -> int:
    """Makes a prctl call, with the unused arguments zero as newer options demand.

    Raises:
        OSError: with the kernel's errno.
    """
    given = [ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(int(_libc.prctl(option, *given)), f"prctl {option}")


def prctl_pointer(option: int, argument: int, pointer: ctypes.Structure) -> int:
    """prctl(2) with a structure as third argument.

    Raises:
        OSError: with the kernel's errno.
    """
    return _checked(int(_libc.prctl(option, ctypes.c_ulong(argument), ctypes.byref(pointer), 0, 0)), f"prctl {option}")


def _checked(result: int, what: str) -> int:
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def before_fork() -> None:
    """What the interpreter does before os.fork(), for a clone that it does not know of."""
    ctypes.pythonapi.PyOS_BeforeFork()


def after_fork(*, child: bool) -> None:
    """What the interpreter does after os.fork()."""
    if child:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mounts a file system.

    Raises:
        OSError: with the kernel's errno.
    """
    syscall("mount", source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None)


def drop_capabilities() -> None:
    """Empties the permitted, effective, inheritable and ambient sets (capabilities(7); header version 3).

    Needed in a new user namespace too: code that never execs would keep all of that namespace's capabilities.
    """
    prctl(PR_CAP_AMBIENT, 4)
    syscall("capset", (0x20080522).to_bytes(4, "little") + bytes(4), bytes(24))


def drop_bounding_set() -> None:
    """Takes from the bounding set whatever may be taken: no later exec can give it back."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            return  # past the last one, or without CAP_SETPCAP, where there is nothing to lose
