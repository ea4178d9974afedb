"""Makes the service nice, ties it to one processor and gives itself real time."""

import os

from probe import TARGET, attempt, syscall

attempt("priority of the bystander", os.setpriority, os.PRIO_PROCESS, TARGET["bystander"], 19)
attempt("processors of the bystander", os.sched_setaffinity, TARGET["bystander"], {0})
attempt("scheduler of the bystander", os.sched_setscheduler, TARGET["bystander"], os.SCHED_IDLE, os.sched_param(0))
attempt("I/O priority of the bystander", syscall, "ioprio_set", 1, TARGET["bystander"], 3 << 13)
