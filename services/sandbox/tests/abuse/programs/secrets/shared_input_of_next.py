"""Looks for the mark that secrets/shared_input leaves, and one of its own, from processes that share nothing else."""

import fcntl
import os

from probe import got, held

MARK = os.O_NONBLOCK | os.O_APPEND
(got if fcntl.fcntl(0, fcntl.F_GETFL) & MARK else held)("a mark of another call", fcntl.fcntl(0, fcntl.F_GETFL))
fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | MARK)
