"""Looks for keys in the environment, the memory and the descriptors of every process that it sees."""

import os
from pathlib import Path

from probe import got, held

seen = 0
for name in os.listdir("/proc"):
    # Its own parent is the server itself.
    if not name.isdigit() or int(name) in {os.getpid(), os.getppid()}:
        continue
    for what in ("environ", "fd", "maps", "cwd/."):
        path = Path(f"/proc/{name}/{what}")
        try:
            content = os.listdir(path) if what in {"fd", "cwd/."} else path.read_bytes()[:1000]
        except OSError:
            continue
        if content:
            seen += 1
            got(f"{path}", content)
if not seen:
    held("processes of others", "none can be read")
