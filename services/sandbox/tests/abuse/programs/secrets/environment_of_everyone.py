"""Reads every /proc/<pid>/environ but its own."""

import os
from pathlib import Path

from probe import got, held

try:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
except OSError as error:
    pids = []
    held("list /proc", error)
read = 0
for pid in pids:
    try:
        text = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        continue
    if pid != os.getpid() and text:
        read += 1
        if "CANARY" in text:
            got("a key in an environment", text[text.index("PAGI_TEST_SECRET") :][:80])
if read:
    got("environments of others", read)
