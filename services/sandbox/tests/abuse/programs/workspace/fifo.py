"""Leaves a FIFO, on which a reader would wait for ever."""

import os

from probe import held, ok

try:
    os.mkfifo("pipe")
except OSError as error:
    held("mkfifo", error)
    open("pipe", "wb").close()
ok("left")
