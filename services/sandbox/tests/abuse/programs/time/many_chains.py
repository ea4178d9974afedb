"""Twenty such chains at once, each in a session of its own, at the moment of its end."""

import os
import time

from probe import TARGET

deadline = time.monotonic() + 6
for _ in range(20):
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
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
