"""Uses signals among its own: an alarm, a child that it ends."""

import os
import signal
import time

from probe import ok

seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.1)
assert seen
pid = os.fork()
if pid == 0:
    time.sleep(30)
os.kill(pid, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
ok("signals")
