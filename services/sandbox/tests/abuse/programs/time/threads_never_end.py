"""Ends, but its threads do not."""

import threading
import time


def stay():
    while True:
        time.sleep(1)


for _ in range(4):
    threading.Thread(target=stay).start()
