"""Becomes the reaper of its orphans, so that they never come to whoever watches, and leaves many behind."""

import os
import time

from probe import libc

libc().prctl(36, 1, 0, 0, 0)
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(20)
        os._exit(0)
