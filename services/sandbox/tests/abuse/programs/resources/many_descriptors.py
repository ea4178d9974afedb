"""Has as many descriptors as it may in as many processes as it may, so that whoever looks at them has much to do."""

import os
import time

from probe import held

files = []
try:
    while True:
        files.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    held("descriptors", error)
try:
    for _ in range(40):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
except OSError as error:
    held("processes", error)
time.sleep(30)
