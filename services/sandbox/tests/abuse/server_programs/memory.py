"""Uses 16 MiB in each of 40 processes, where the server may have 256 in each, or altogether where that is counted."""

import os
import signal

from probe import got, held

reading, writing = os.pipe()
children = []
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        block = b"x" * (16 * 2**20)
        os.write(writing, b"+")
        signal.pause()
    children.append(pid)
os.close(writing)
alive = 0
while alive < len(children):
    ended = [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]]
    if ended:
        children = [pid for pid in children if pid not in ended]
        held("processes were ended", len(ended))
        continue
    os.set_blocking(reading, False)
    try:
        alive += len(os.read(reading, 100))
    except BlockingIOError:
        os.sched_yield()
    if not children:
        break
if len(children) == 40:
    got("memory of all together", f"{16 * len(children)} MiB")
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
