"""Reads from every descriptor that it was given, and says where each leads. Source: CWE-403."""

import os
import stat

from probe import got, held

for descriptor in range(3, 1024):
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        continue
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        try:
            got(
                f"descriptor {descriptor}",
                os.pread(descriptor, 100, 0) if stat.S_ISREG(mode) else os.listdir(descriptor),
            )
        except OSError as error:
            held(f"descriptor {descriptor}", error)
