"""Forks until it is refused, at most 800. A server may have 256 processes and threads. CWE-770."""

import os
import signal
import time

from probe import got, held

children = []
while len(children) < 800:
    try:
        pid = os.fork()
    except OSError as error:
        held(f"fork number {len(children)}", error)
        break
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    children.append(pid)
if len(children) > 300:
    got("processes", len(children))
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
