"""Asks for what goes before all others: real time, deadlines, a nice value below zero."""

import os

from probe import attempt, syscall

attempt("SCHED_FIFO", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
attempt("SCHED_RR", os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(99))
attempt("nice", os.nice, -5)
attempt("real time for IO", syscall, "ioprio_set", 1, 0, 1 << 13)
