"""Fills /tmp, which all share; where it has one of its own, with more than it may have on disk."""

import os

from probe import TARGET, got, held

written = 0
try:
    for number in range(4):
        with open(f"/tmp/{TARGET['mark']}-{number}-fill", "wb", buffering=0) as file:
            for _ in range(30):
                written += file.write(bytes(1 << 20))
except OSError as error:
    held(f"after {written >> 20} MiB", error)
shared = os.path.exists(TARGET["outside"])
(got if written > (0 if shared else 64 << 20) else held)(
    f"MiB in {'the shared' if shared else 'a private'} /tmp", written >> 20
)
