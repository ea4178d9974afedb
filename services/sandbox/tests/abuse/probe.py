"""What a program of the abuse suite may import: its targets, and a way to tell what it achieved.

The runner puts this module before the program's text; each told line is JSON behind the word ABUSE.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Callable
from typing import Any

# Filled by the runner: paths, ports and process ids that are ours to attack.
TARGET: dict[str, Any] = {}
# What says "you may not", against what says "your arguments are wrong", which a kernel says that has read them.
REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS}
# Linux system calls by architecture: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
NUMBERS = {
    name: {"x86_64": x86, "aarch64": arm}
    for name, x86, arm in (
        ("ptrace", 101, 117), ("syslog", 103, 116), ("capset", 126, 91), ("personality", 135, 92),
        ("pivot_root", 155, 41), ("acct", 163, 89), ("mount", 165, 40), ("umount2", 166, 39), ("swapon", 167, 224),
        ("reboot", 169, 142), ("sethostname", 170, 161), ("iopl", 172, -1), ("init_module", 175, 105),
        ("delete_module", 176, 106), ("quotactl", 179, 60), ("mq_open", 240, 180), ("kexec_load", 246, 104),
        ("add_key", 248, 217), ("keyctl", 250, 219), ("ioprio_set", 251, 30), ("unshare", 272, 97),
        ("perf_event_open", 298, 241), ("fanotify_init", 300, 262), ("name_to_handle_at", 303, 264),
        ("open_by_handle_at", 304, 265), ("setns", 308, 268), ("process_vm_readv", 310, 270),
        ("process_vm_writev", 311, 271), ("kcmp", 312, 272), ("finit_module", 313, 273), ("tgkill", 234, 131),
        ("sched_setscheduler", 144, 119), ("bpf", 321, 280), ("kexec_file_load", 320, 294), ("userfaultfd", 323, 282),
        ("pidfd_send_signal", 424, 424), ("io_uring_setup", 425, 425), ("open_tree", 428, 428),
        ("move_mount", 429, 429), ("fsopen", 430, 430), ("clone3", 435, 435), ("openat2", 437, 437),
        ("pidfd_getfd", 438, 438), ("process_madvise", 440, 440), ("memfd_secret", 447, 447),
        ("process_mrelease", 448, 448), ("fchmodat2", 452, 452), ("lsm_list_modules", 461, 461),
        ("shmget", 29, 194), ("shmat", 30, 196), ("semget", 64, 190), ("msgget", 68, 186), ("setxattr", 188, 5),
        ("setfsuid", 122, 151), ("modify_ldt", 154, -1), ("clock_settime", 227, 112),
        ("settimeofday", 164, 170), ("adjtimex", 159, 171), ("lookup_dcookie", 212, 18), ("migrate_pages", 256, 238),
    )
}  # fmt: skip


def tell(kind: str, what: str, detail: object = "") -> None:
    """Writes a line for the runner, whatever became of sys.stdout."""
    os.write(1, f"\nABUSE {json.dumps([kind, what, str(detail)[:300]])}\n".encode())


def got(what: str, detail: object = "") -> None:
    """Harm was done, or could have been."""
    tell("got", what, detail)


def held(what: str, detail: object = "") -> None:
    """The sandbox, or the kernel, stood in the way."""
    tell("held", what, detail)


def ok(what: str, detail: object = "") -> None:
    """Something ordinary works."""
    tell("ok", what, detail)


def attempt(what: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Tells whether `act` gets through; what it returns, or None where it is held."""
    try:
        result = act(*arguments, **options)
    except Exception as error:  # noqa: BLE001 whatever stands in the way
        held(what, f"{type(error).__name__}: {error}")
        return None
    got(what, repr(result))
    return result


def trying(what: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Tries what only a look from outside can judge: some calls answer 0 and do nothing."""
    try:
        result = act(*arguments, **options)
    except Exception as error:  # noqa: BLE001 whatever stands in the way
        held(what, f"{type(error).__name__}: {error}")
    else:
        tell("tried", what, repr(result))


def libc() -> Any:
    """The C library, whose functions set errno."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def syscall(name: str | int, *arguments: Any) -> int:
    """A system call by name or number.

    Raises:
        OSError: it failed.
    """
    import ctypes

    number = NUMBERS[name].get(platform.machine(), -1) if isinstance(name, str) else name
    converted = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    ctypes.set_errno(0)
    function = libc().syscall
    function.restype = ctypes.c_long
    result = int(function(ctypes.c_long(number), *converted))
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(name))
    return result


def reach(name: str, *arguments: Any, also: tuple[int, ...] = ()) -> None:
    """Tells whether a system call reaches the kernel: an error about its arguments counts as got.

    Made in a child, so that a sandbox that kills for one call still shows what it does about the next.

    Args:
        name: of the system call.
        arguments: wrong on purpose where the right ones would do harm.
        also: further error numbers that mean a refusal.
    """
    pid = os.fork()
    if pid == 0:
        _reach(name, arguments, also)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        held(name, f"ended by signal {-code}")


def _reach(name: str, arguments: tuple[Any, ...], also: tuple[int, ...]) -> None:
    try:
        result = syscall(name, *arguments)
    except OSError as error:
        if error.errno in REFUSALS or error.errno in also:
            held(name, error.strerror)
        else:
            got(name, f"the kernel read its arguments: {error.strerror}")
    else:
        got(name, f"returned {result}")
