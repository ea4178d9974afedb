"""Holds deleted files by a page that it has mapped of each, and closes them."""

import mmap
import os

from probe import got

kept, written = [], 0
for number in range(40):
    file = os.open(f"fill-{number}", os.O_CREAT | os.O_RDWR)
    os.unlink(f"fill-{number}")
    for _ in range(15):
        written += os.write(file, bytes(1 << 20))
    kept.append(mmap.mmap(file, 4096, mmap.MAP_PRIVATE))
    # The module keeps one of its own.
    os.closerange(4, 64)
if written > 300 << 20:
    got("MiB in deleted files", written >> 20)
