"""Every process forks, and so does every child: nine generations at most, 512 processes in leaves."""

import os
import time

for _ in range(9):
    try:
        os.fork()
    except OSError:
        break
time.sleep(20)
