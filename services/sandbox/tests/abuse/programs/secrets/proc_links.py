"""Enters others by the links in /proc/<pid>: cwd, root, fd, exe. Source: proc(5)."""

import os
from pathlib import Path

from probe import TARGET, attempt

for pid in TARGET["others"]:
    attempt("another call's file by /proc/<pid>/cwd", Path(f"/proc/{pid}/cwd/private.txt").read_text)
for pid in (TARGET["service"], TARGET["fork_server"]):
    attempt(f"outside by /proc/{pid}/root", Path(f"/proc/{pid}/root{TARGET['secret']}").read_text)
    attempt(f"descriptors of {pid}", os.listdir, f"/proc/{pid}/fd")
