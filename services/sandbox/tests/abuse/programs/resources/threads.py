"""Starts threads until it is refused, at most 400. It asked for 32."""

import threading
import time

from probe import got, held

threading.stack_size(64 << 10)
stop = threading.Event()
started = 0
try:
    for _ in range(400):
        threading.Thread(target=stop.wait, args=(60,), daemon=True).start()
        started += 1
except (RuntimeError, MemoryError) as error:
    held(f"thread number {started}", error)
if started > 64:
    time.sleep(1)  # who counts from time to time comes late
    got("threads", started)
stop.set()
