"""Works with processes: a pool, a queue, a process pool."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from probe import ok

context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
with ProcessPoolExecutor(2, mp_context=context) as pool:
    assert list(pool.map(abs, [-4])) == [4]
ok("multiprocessing")
