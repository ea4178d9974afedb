"""Makes a POSIX message queue, which outlives the call."""

import ctypes
import os

from probe import TARGET, attempt, syscall

name = ctypes.c_char_p(TARGET["mark"].encode())
attempt("a POSIX message queue", syscall, "mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, 0)
