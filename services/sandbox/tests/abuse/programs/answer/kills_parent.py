"""Kills the process above it, unless that is the fork server, whose end would take other calls with it."""

import os
import signal

from probe import TARGET, attempt, held

parent = os.getppid()
if parent == TARGET["fork_server"]:
    attempt("signal the parent", os.kill, parent, 0)
elif parent == 0:
    held("the parent", "cannot be seen")
else:
    attempt("kill the parent", os.kill, parent, signal.SIGKILL)
