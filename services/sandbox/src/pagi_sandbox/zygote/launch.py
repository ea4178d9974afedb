"""Starts a server in a jail of its own: `python -I -m pagi_sandbox.zygote.launch <options as JSON>`.

One process, the keeper, stays outside: it ends everything in the jail, whatever that was started as, when the server
ends, when it is told to (SIGTERM) and when the service dies. Where the system grants namespaces, process 1 of them
stands between it and the server. The server's environment is this program's own, so that no secret is an argument.

The options, besides those of ServerJail: "parent", the service's process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pagi_sandbox.zygote import kernel
from pagi_sandbox.zygote.server_jail import ServerJail

_END_S = 5.0


def main() -> NoReturn:
    """Runs until the server ends; exits as it did."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    # Whatever the service, or a library in it, has left open.
    report = options["report"]
    for low, high in ((3, report), (report + 1, os.sysconf("SC_OPEN_MAX"))):
        os.closerange(low, high)
    # Everything that the server starts and leaves behind comes back to this process.
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    try:
        jail = ServerJail(options)
    except OSError as error:
        os.write(2, f"its jail cannot be made: {error}\n".encode())
        os._exit(127)
    signal.signal(signal.SIGTERM, lambda *_: _end(jail, 143))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != options["parent"]:
        _end(jail, 1)  # the service died before we could ask to be told
    server = jail.start()
    # What the server was ended for is told to people on the errors; the other pipes are the server's alone: their end
    # tells the service that it is gone.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    os.close(report)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == server:
            jail.tell_why()
            code = os.waitstatus_to_exitcode(status)
            _end(jail, code if code >= 0 else 128 - code)


def _end(jail: ServerJail, code: int) -> NoReturn:
    """Kills all children until there are none: those of a dead one become ours, and are next."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    until = time.monotonic() + _END_S
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)
            if jail.exact:
                # One act for the kernel, which a tree that forks all the time does not outrun.
                with suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
            os.waitpid(-1, 0)
    jail.remove()
    os._exit(code)


if __name__ == "__main__":
    main()
