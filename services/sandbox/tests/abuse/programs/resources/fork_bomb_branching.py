"""Every process forks, and so does every child: nine generations at most, 512 processes in leaves."""

import os
import time

from probe import got

count = open("count", "ab", buffering=0)  # noqa: SIM115 it stays open
leader = os.getpid()
for _ in range(9):
    try:
        os.fork()
    except OSError:
        break
count.write(b"x")
if os.getpid() == leader:
    time.sleep(0.4)
    if os.path.getsize("count") > 100:
        time.sleep(1)  # who counts from time to time comes late
        got("processes", os.path.getsize("count"))
else:
    time.sleep(20)
