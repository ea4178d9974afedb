"""Counts what it was given besides its input, its output and its errors. Source: CWE-403."""

import os
import stat

from probe import got, held

spare = []
for descriptor in range(3, 4096):
    try:
        spare.append((descriptor, stat.filemode(os.fstat(descriptor).st_mode)))
    except OSError:
        continue
(got if spare else held)("descriptors", spare)
