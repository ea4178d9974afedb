"""Kills the call of another session."""

import os

from probe import TARGET, attempt

for pid in TARGET["others"]:
    attempt(f"signal another call's process {pid}", os.kill, pid, 0)
