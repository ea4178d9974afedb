"""Closes itself to whoever watches it, by being no process that may be dumped. Source: prctl(2), PR_SET_DUMPABLE."""

from probe import got, held, libc

call = libc().prctl
status = call(4, 0, 0, 0, 0)
(got if status == 0 and call(3, 0, 0, 0, 0) == 0 else held)("not dumpable", status)
