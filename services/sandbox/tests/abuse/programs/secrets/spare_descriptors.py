"""Counts the descriptors that it does not need: a tool has its input, its output and one socket for its answer."""

import os
import stat

from probe import got, held

spare = []
for descriptor in range(3, 4096):
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        continue
    spare.append((descriptor, stat.filemode(mode)))
(held if len(spare) == 1 and spare[0][1].startswith("s") else got)("descriptors", spare)
