"""Starts threads until it is refused, at most 400. It asked for 32."""

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
if started > 64:
    got("threads", started)
stop.set()
