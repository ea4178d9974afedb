"""Signals whatever stands above it: process 1, its parent's parent, the service."""

import os
import signal
from pathlib import Path

from probe import TARGET, got, held

above = Path(f"/proc/{os.getppid()}/status").read_text().split("PPid:\t")[1].split()[0]
for pid in {1, int(above), TARGET["service"], TARGET["fork_server"], *TARGET["others"]} - {0}:
    for number in (signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except OSError as error:
            held(f"{number.name} to {pid}", error)
        else:
            # To process 1 of a namespace it can be sent from inside, and does nothing.
            (held if pid == 1 and os.path.exists("/proc/1") else got)(f"{number.name} to {pid}", "sent")
