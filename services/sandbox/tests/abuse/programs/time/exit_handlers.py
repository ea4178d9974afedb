"""Loops in an exit handler."""

import atexit
import time


@atexit.register
def never():
    while True:
        time.sleep(1)
