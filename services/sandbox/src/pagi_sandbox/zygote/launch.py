"""Starts a server in a jail of its own: `python -I -m pagi_sandbox.zygote.launch <options as JSON>`.

Two processes: one holds the jail and ends everything in it, whatever that was started as, when the server ends, when it
is told to (SIGTERM) and when the service dies; the other puts every layer on and becomes the server. The server's
environment is this program's own, so that no secret is an argument.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pagi_sandbox.zygote import kernel, landlock, seccomp, sight
from pagi_sandbox.zygote.slots import tasks_of

_MAX_FILES = 1024
_MAX_FILE_BYTES = 2**30
_MORE_TASKS = 256
_END_S = 5.0


def main() -> NoReturn:
    """Runs until the server ends; exits as it did."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    # Everything that the server starts and leaves behind comes back to this process.
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: _end(143))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != options["parent"]:
        os._exit(1)  # the service died before we could ask to be told
    keeper = os.getpid()
    server = os.fork()
    if server == 0:
        _become(options, keeper)
    nothing = os.open(os.devnull, os.O_RDWR)
    # The pipes are the server's alone: their end tells the service that it is gone.
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == server:
            code = os.waitstatus_to_exitcode(status)
            _end(code if code >= 0 else 128 - code)


def _end(code: int) -> NoReturn:
    """Kills all children until there are none: those of a dead one become ours, and are next."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    until = time.monotonic() + _END_S
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)
    os._exit(code)


def _become(options: dict[str, Any], keeper: int) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        os.umask(0o077)
        os.chdir(options["cwd"])
        _limit(options["memory_bytes"])
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        _confine(options)
        kernel.drop_capabilities()
        program = seccomp.build(seccomp.FilterOptions(network=options["network"]))
        if program:
            seccomp.load(program)
        # Python ignores it, and a program that is started would inherit that.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execv(options["argv"][0], options["argv"])  # noqa: S606 the operator's own server
    except OSError as error:
        os.write(2, f"cannot be started: {error}\n".encode())
    finally:
        os._exit(127)


def _limit(memory_bytes: int) -> None:
    # Not the address space: node reserves a hundred times of what it uses.
    for limit, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
        # The kernel counts all of a user's; root is not bound.
        (resource.RLIMIT_NPROC, tasks_of(os.getuid()) + _MORE_TASKS),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _confine(options: dict[str, Any]) -> None:
    version = landlock.abi()
    if not version:
        os.write(2, b"this kernel has no Landlock: the server can read what the service can\n")
        return
    rules = landlock.Ruleset(version, tcp=not options["network"])
    for path in (*sight.read_only(network=options["network"]), *sight.PROC, *options["read"]):
        rules.allow(path, landlock.READ)
    for path in sight.DEVICES:
        rules.allow(path, landlock.READ | landlock.WRITE_FILE)
    for path in options["write"]:
        rules.allow(path, landlock.READ_WRITE)
    rules.enforce()


if __name__ == "__main__":
    main()
