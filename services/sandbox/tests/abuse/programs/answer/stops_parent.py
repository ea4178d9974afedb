"""Stops the process above it, so that nobody reports its end; the same exception holds."""

import os
import signal

from probe import TARGET, attempt, held

parent = os.getppid()
if parent == TARGET["fork_server"]:
    attempt("signal the parent", os.kill, parent, 0)
elif parent == 0:
    held("the parent", "cannot be seen")
else:
    attempt("stop the parent", os.kill, parent, signal.SIGSTOP)
