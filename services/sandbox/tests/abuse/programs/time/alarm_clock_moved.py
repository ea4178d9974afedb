"""Tries to set the clock by which others measure its time, with a value that no kernel takes."""

import time

from probe import attempt

attempt("set the clock", time.clock_settime, time.CLOCK_MONOTONIC, 1.0)
