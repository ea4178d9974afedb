"""Becomes a daemon: forks, leaves its session, forks again, closes all. Source: APUE, chapter 13."""

import os
import time

from probe import TARGET

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.1)
            with open(TARGET["beat"], "a") as file:
                file.write("x")
    os._exit(0)
