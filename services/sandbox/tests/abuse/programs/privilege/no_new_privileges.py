"""Asks whether a set-user-id program would raise it, and takes the bar away. Source: PR_SET_NO_NEW_PRIVS, prctl(2)."""

from probe import got, held, libc

bar = libc().prctl(39, 0, 0, 0, 0)
(held if bar == 1 else got)("no_new_privs", bar)
(held if libc().prctl(38, 0, 0, 0, 0) == -1 else got)("take no_new_privs away")
