"""Leaves a child that keeps stdout open, on which a careless reader waits."""

import os
import time

if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print("done")
