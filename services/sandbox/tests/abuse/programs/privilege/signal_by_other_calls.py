"""Signals by the calls that rules for kill forget: tgkill, pidfd_send_signal, fcntl(F_SETOWN), a timer."""

import fcntl
import os
import signal
import time

from probe import TARGET, attempt, got, held, syscall


def pidfd():
    signal.pidfd_send_signal(os.pidfd_open(TARGET["bystander"]), signal.SIGKILL)


def owner():
    read_end, write_end = os.pipe()
    fcntl.fcntl(read_end, fcntl.F_SETOWN, TARGET["bystander"])
    fcntl.fcntl(read_end, 10, signal.SIGKILL)
    fcntl.fcntl(read_end, fcntl.F_SETFL, fcntl.fcntl(read_end, fcntl.F_GETFL) | os.O_ASYNC)
    os.write(write_end, b"x")
    time.sleep(0.1)


attempt("tgkill", syscall, "tgkill", TARGET["bystander"], TARGET["bystander"], 9)
attempt("pidfd_send_signal", pidfd)
try:
    owner()
except OSError as error:
    held("F_SETOWN", error)
try:
    os.kill(TARGET["bystander"], 0)
except ProcessLookupError as error:
    held("see the bystander", error)
except OSError as error:
    held("signal the bystander", error)
else:
    got("the bystander can be signalled")
