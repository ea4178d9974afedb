"""Calls with the x32 bit set, which turns the numbers of a block list into others. Source: seccomp(2), Caveats."""

import platform

from probe import got, held, syscall

if platform.machine() != "x86_64":
    held("x32", "another architecture")
else:
    try:
        got("getpid by x32", syscall(0x40000000 + 39))
    except OSError as error:
        held("getpid by x32", error)
