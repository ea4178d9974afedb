"""Locks another's file, on which its owner then waits for ever."""

import fcntl
import os

from probe import TARGET, attempt


def lock():
    descriptor = os.open(TARGET["writable"], os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


attempt("flock", lock)
