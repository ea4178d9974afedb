"""Lets the kernel hold data: pipes with large buffers, all filled. Source: F_SETPIPE_SZ, fcntl(2)."""

import fcntl
import os

from probe import got, held

total = 0
kept = []
try:
    for _ in range(1000):
        read_end, write_end = os.pipe()
        kept += [read_end, write_end]
        size = fcntl.fcntl(write_end, 1031, 1 << 20)
        os.set_blocking(write_end, False)
        total += os.write(write_end, bytes(size))
except OSError as error:
    held(f"after {total >> 20} MiB", error)
if total > 256 << 20:
    got("memory in pipes, MiB", total >> 20)
