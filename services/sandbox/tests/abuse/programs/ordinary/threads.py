"""Works with threads, locks, queues and a pool."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

from probe import ok

results = queue.Queue()
lock = threading.Lock()


def work(number):
    with lock:
        results.put(number * number)
    return number


with ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(work, range(20))) == 190
assert results.qsize() == 20
ok("threads")
