"""Each process forks the next and ends, so that whoever lists and kills comes too late. Source: the "comet"."""

import os
import time

from probe import TARGET

deadline = time.monotonic() + 6
if os.fork() == 0:
    os.setsid()
    file = open(TARGET["beat"], "ab", buffering=0)  # noqa: SIM115 it stays open
    while time.monotonic() < deadline:
        file.write(b"x")
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            time.sleep(0.001)
    os._exit(0)
