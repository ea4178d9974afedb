"""Kills a process of the service's user."""

import os
import signal

from probe import TARGET, attempt

attempt("SIGKILL to the bystander", os.kill, TARGET["bystander"], signal.SIGKILL)
