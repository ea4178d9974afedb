"""Looks into the process that watches over it: its root, where the machine may still hang, its memory, its files."""

import contextlib
import os
from pathlib import Path

from probe import TARGET, attempt, got, held

attempt("the machine below /.host", Path("/.host" + TARGET["secret"]).read_text)
for pid in {1, os.getppid()} - {0}:
    if pid == TARGET["fork_server"]:
        held("a process between it and the fork server", "there is none")
        continue
    for way in (f"/proc/{pid}/root/.host{TARGET['secret']}", f"/proc/{pid}/root{TARGET['secret']}"):
        attempt(f"outside by {way[:20]}", Path(way).read_text)
    attempt(f"what {pid} has open", os.listdir, f"/proc/{pid}/fd")
    for number in range(32):
        with contextlib.suppress(OSError):
            got(f"a file of {pid}", os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_NONBLOCK))
            got(f"a file of {pid}", os.readlink(f"/proc/{pid}/fd/{number}"))
    attempt(f"environment of {pid}", Path(f"/proc/{pid}/environ").read_bytes)
    attempt(f"memory of {pid}", open, f"/proc/{pid}/mem", "rb")
