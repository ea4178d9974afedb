"""Writes files that it has deleted, so that no walk of its workspace finds them: 16 MiB each, 600 MiB in all."""

import os

from probe import got

kept, written = [], 0
for number in range(40):
    kept.append(os.open(f"fill-{number}", os.O_CREAT | os.O_RDWR))
    os.unlink(f"fill-{number}")
    for _ in range(15):
        written += os.write(kept[-1], bytes(1 << 20))
if written > 300 << 20:
    got("MiB in deleted files", written >> 20)
