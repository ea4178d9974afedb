"""Forks until it is refused, at most 400, so that a machine without limits survives. It asked for 32. CWE-770."""

import os
import time

from probe import got, held

children = 0
while children < 400:
    try:
        pid = os.fork()
    except OSError as error:
        held(f"fork number {children}", error)
        break
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    children += 1
if children > 64:
    time.sleep(1)  # who counts from time to time comes late
    got("processes", children)
