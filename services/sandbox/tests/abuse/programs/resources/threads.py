"""Starts threads until it is refused."""

import threading

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
else:
    got("threads", started)
stop.set()
