"""Starts processes that are no children of its own but of its parent: clone(CLONE_PARENT). Source: clone(2)."""

import os
import platform
import time

from probe import held, syscall

CLONE_PARENT, number = 0x8000, 56 if platform.machine() == "x86_64" else 220
leader = os.getpid()
for _ in range(4):
    try:
        syscall(number, CLONE_PARENT | 17, 0, 0, 0, 0)
    except OSError as error:
        held("clone", error)
    if os.getpid() != leader:
        os.setsid()
        time.sleep(20)
        os._exit(0)
