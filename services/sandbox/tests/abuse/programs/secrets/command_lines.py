"""Reads the command lines of processes that are not its own, where people put passwords."""

from pathlib import Path

from probe import TARGET, attempt

for pid in (TARGET["service"], TARGET["bystander"]):
    attempt(f"command line of {pid}", Path(f"/proc/{pid}/cmdline").read_bytes)
