"""Reads what is mounted on the machine, from its own /proc: with it, where others keep their things."""

import os
from pathlib import Path

from probe import TARGET, got, held

for name in ("mounts", "mountinfo", "mountstats"):
    try:
        lines = Path("/proc/self", name).read_text().splitlines()
    except OSError as error:
        held(name, error)
        continue
    # Of a file system of its own there are no more mounts than it has itself.
    (got if os.path.exists(TARGET["outside"]) else held)(name, lines[:2])
