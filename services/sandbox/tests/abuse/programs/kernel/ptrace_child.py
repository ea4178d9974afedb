"""Traces a child of its own, the first step of most kernel exploits that use ptrace."""

import os

from probe import got, held, syscall

pid = os.fork()
if pid == 0:
    try:
        syscall("ptrace", 0, 0, 0, 0)
    except OSError:
        os._exit(3)
    os._exit(0)
_, status = os.waitpid(pid, 0)
(got if status == 0 else held)("PTRACE_TRACEME", status)
