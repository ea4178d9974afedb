"""Leaves a child in a session of its own and ends as if all were done."""

import os
import time

if os.fork() == 0:
    os.setsid()
    time.sleep(30)
    os._exit(0)
