"""Each process forks the next and ends, so that whoever lists and kills comes too late. Source: the "comet"."""

import os
import time

deadline = time.monotonic() + 6
if os.fork() == 0:
    os.setsid()
    while time.monotonic() < deadline:
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            time.sleep(0.001)
    os._exit(0)
