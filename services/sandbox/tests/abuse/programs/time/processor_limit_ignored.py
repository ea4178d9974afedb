"""Ignores the signal that tells of the processor time's end."""

import signal

signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True:
    pass
