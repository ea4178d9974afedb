"""Signals the service and the fork server; with 0, which tests the right and does nothing."""

import os

from probe import TARGET, attempt

attempt("signal the service", os.kill, TARGET["service"], 0)
attempt("signal the fork server", os.kill, TARGET["fork_server"], 0)
attempt("signal the service's group", os.killpg, TARGET["service"], 0)
