"""Reads who is connected to whom on the machine, and where sockets are, from its own /proc. Source: proc(5), net."""

import os
from pathlib import Path

from probe import TARGET, got, held

marks = {f":{TARGET['tcp']:04X} ", f":{TARGET['service_port']:04X} ", TARGET["unix"]}
for place in ("/proc/net", "/proc/self/net", "/proc/thread-self/net", f"/proc/self/task/{os.getpid()}/net"):
    for table in ("tcp", "tcp6", "udp", "unix"):
        try:
            text = Path(place, table).read_text(errors="replace")
        except OSError as error:
            held(f"{place}/{table}", error)
            continue
        (got if any(mark in text for mark in marks) else held)(f"{place}/{table}", text[:80])
