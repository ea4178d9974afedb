"""Our seccomp program: built once in the fork server, loaded by each child as its last step before it reads anything.

Sources: Documentation/userspace-api/seccomp_filter.rst (filters must look at the architecture first), struct
seccomp_data in linux/seccomp.h, the BPF machine in linux/filter.h. The numbers are searched as a binary tree; the
kernel (since 5.11) remembers which ones are always allowed and does not run the program for them.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pagi_sandbox.zygote import kernel
from pagi_sandbox.zygote.syscall_numbers import numbers
from pagi_sandbox.zygote.syscall_policy import ALLOWED, DENIED, KILLED, MODES, NETWORK

_INSTRUCTION = struct.Struct("<HBBI")
# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]. Little endian: low halves first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x05, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

# CLONE_NEW*: time, mount, cgroup, uts, ipc, user, pid, net (linux/sched.h).
_NEW_NAMESPACE = 0x80 | 0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_MSG_FASTOPEN = 0x20000000
# What ordinary programs ask of files, pipes and terminals (asm-generic/ioctls.h, linux/fs.h): TCGETS to TCSETSF,
# TIOCGPGRP, TIOCOUTQ, TIOCGWINSZ, TIOCSWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FIOASYNC, FIOQSIZE, FICLONE,
# FICLONERANGE, FS_IOC_GETFLAGS, FS_IOC_FIEMAP. Not more: file systems have calls of their own, of which some make
# snapshots of all that they hold (btrfs), or change what a quota counts, and Landlock sees none of them.
_IOCTLS = (
    *(0x5401, 0x5402, 0x5403, 0x5404, 0x540F, 0x5411, 0x5413, 0x5414, 0x541B, 0x5421, 0x5450, 0x5451, 0x5452, 0x5460),
    *(0x40049409, 0x4020940D, 0x80086601, 0xC020660B),
)
_AF_UNIX, _AF_INET, _AF_INET6, _STREAM, _DATAGRAM, _SEQPACKET = 1, 2, 10, 1, 2, 5
# PR_SET_MM, PR_SET_PTRACER, PR_SCHED_CORE, PR_SET_IO_FLUSHER.
_PRCTL = (35, 0x59616D61, 62, 57)
# F_SETLEASE, F_NOTIFY: others then wait for this process when they open a file, or it hears what they do.
_FCNTL = (1024, 1026)
_SCHEDULING = (
    "getaffinity",
    "setaffinity",
    "getparam",
    "setparam",
    "getscheduler",
    "setscheduler",
    "getattr",
    "setattr",
)

# What a child needs between having work and running it: its mounts, its workspace's owner, its last rules.
_UNTIL_CLOSED = ("mount", "umount2", "mount_setattr", "fchown", "chown", "fchownat")
_OF_JAILER = ("setns", "unshare")
_LANDLOCK = (444, 445, 446)  # landlock_create_ruleset, landlock_add_rule, landlock_restrict_self

Program = list[tuple[int, int, int, int]]


def error(number: int) -> int:
    """The action that answers with an errno; 0 answers that all went well and does nothing."""
    return 0x00050000 | number


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """What a filter allows beside the ordinary.

    Attributes:
        network: sockets for TCP and UDP may be made.
        own_files: see syscall_policy.MODES.
        to_be_closed: what a child needs until it runs its tool; `close` takes it away.
        of_jailer: what its jailer needs to make the next one ready; `close` takes it away too.
    """

    network: bool = False
    own_files: bool = False
    to_be_closed: bool = False
    of_jailer: bool = False


def build(options: FilterOptions, machine: str | None = None) -> bytes:
    """The program's instructions, or nothing where there is no table for the architecture.

    Loading takes a quarter of a millisecond, so a child loads it before it has work, or its jailer once for all of its
    children, and `close` then takes away what was still needed.
    """
    machine = machine or platform.machine()
    known = numbers(machine)
    if not known:
        return b""
    leaves = {known[name]: leaf for name, leaf in _leaves(options).items() if name in known}
    if options.to_be_closed:
        leaves |= {known[name]: _return(ALLOW) for name in _UNTIL_CLOSED if name in known}
        leaves |= dict.fromkeys(_LANDLOCK, _return(ALLOW))
    if options.of_jailer:
        leaves |= {known[name]: _return(ALLOW) for name in _OF_JAILER if name in known}
    program: Program = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, KILL)]
    program.append((_LOAD, 0, 0, _NUMBER))
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, KILL)]
    program += _tree(_ranges(leaves))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def close(machine: str | None = None) -> bytes:
    """A short program for what the first one left open; of two programs the stricter answer counts."""
    known = numbers(machine or platform.machine())
    if not known:
        return b""
    forbidden = [
        (known[name], KILL if name in KILLED.split() else error(errno.EPERM))
        for name in (*_UNTIL_CLOSED, *_OF_JAILER)
        if name in known
    ]
    forbidden += [(number, error(errno.ENOSYS)) for number in _LANDLOCK]
    program: Program = [(_LOAD, 0, 0, _NUMBER)]
    for number, action in forbidden:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, action)]
    # No tool may close itself to its jailer, which looks at what it holds.
    closes_itself = _none_of(0, (kernel.PR_SET_DUMPABLE,))
    program += [(_EQUAL, 0, len(closes_itself), known["prctl"]), *closes_itself, *_return(ALLOW)]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def load(program: bytes) -> None:
    """Puts this process under the program, for good; no_new_privs must be set.

    Raises:
        OSError: the kernel does not take it.
    """
    kernel.prctl_pointer(kernel.PR_SET_SECCOMP, 2, _Filter(len(program) // _INSTRUCTION.size, program))


def _leaves(options: FilterOptions) -> dict[str, Program]:
    allow, denied = _return(ALLOW), _return(error(errno.EPERM))
    leaves = dict.fromkeys(ALLOWED.split(), allow)
    leaves |= dict.fromkeys(DENIED.split(), denied)
    leaves |= dict.fromkeys(KILLED.split(), _return(KILL))
    leaves |= dict.fromkeys(MODES.split(), allow if options.own_files else _return(error(0)))
    leaves |= dict.fromkeys(NETWORK.split(), denied)
    own = _only(0, (0,))
    # Without a target they mean the caller; of others they are nobody's business.
    leaves |= dict.fromkeys(
        ["prlimit64", *(f"sched_{what}" for what in _SCHEDULING)],
        own,
    )
    # ioprio: which = IOPRIO_WHO_PROCESS; setpriority: PRIO_PROCESS; both of the caller.
    leaves |= {
        "setpriority": _only(0, (0,), _only(1, (0,))),
        "ioprio_get": _only(0, (1,), _only(1, (0,))),
        "ioprio_set": _only(0, (1,), _only(1, (0,))),
        "personality": _only(0, (0, 0xFFFFFFFF)),
        "clone": _none_of_bits(0, _NEW_NAMESPACE),
        # Pairs only of connected kinds: a datagram socket could send to any address by path.
        "socketpair": _only(0, (_AF_UNIX,), _only(1, (_STREAM, _SEQPACKET), mask=0xF)),
        "ioctl": _only(1, _IOCTLS, refusal=errno.ENOTTY),
        "prctl": _none_of(0, _PRCTL),
        "fcntl": _none_of(1, _FCNTL),
    }
    if options.network:
        leaves |= {
            "socket": _only(0, (_AF_INET, _AF_INET6), _only(1, (_STREAM, _DATAGRAM), _only(2, (0, 6, 17)), mask=0xF)),
            "connect": allow,
            # TCP fast open connects where no connect() is seen.
            "sendto": _none_of_bits(3, _MSG_FASTOPEN),
            "sendmsg": _none_of_bits(2, _MSG_FASTOPEN),
            "sendmmsg": _none_of_bits(3, _MSG_FASTOPEN),
        }
    return leaves


def _return(action: int) -> Program:
    return [(_RETURN, 0, 0, action)]


def _only(
    argument: int, values: Iterable[int], then: Program | None = None, *, mask: int = 0, refusal: int = errno.EPERM
) -> Program:
    """Goes on with `then` (allow) where the argument's low half is one of the values; `refusal` where not."""
    values = tuple(values)
    program: Program = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    if mask:
        program.append((_AND, 0, 0, mask))
    program += [(_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
    return [*program, *_return(error(refusal)), *(then or _return(ALLOW))]


def _none_of(argument: int, values: Sequence[int]) -> Program:
    checks = [(_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
    return [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        *checks,
        *_return(ALLOW),
        *_return(error(errno.EPERM)),
    ]


def _none_of_bits(argument: int, bits: int) -> Program:
    return [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        (_ANY_BIT, 0, 1, bits),
        *_return(error(errno.EPERM)),
        *_return(ALLOW),
    ]


def _ranges(leaves: dict[int, Program]) -> list[tuple[int, Program]]:
    """The first number of each run with one leaf; what lies between is unknown."""
    unknown = _return(error(errno.ENOSYS))
    runs: list[tuple[int, Program]] = []
    for number in range(max(leaves) + 2):
        leaf = leaves.get(number, unknown)
        if not runs or runs[-1][1] != leaf:
            runs.append((number, leaf))
    return runs


def _tree(runs: list[tuple[int, Program]]) -> Program:
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    low, high = _tree(runs[:middle]), _tree(runs[middle:])
    # A conditional jump reaches 255 instructions, an unconditional one any number.
    return [(_AT_LEAST, 0, 1, runs[middle][0]), (_JUMP, 0, 0, len(low)), *low, *high]
