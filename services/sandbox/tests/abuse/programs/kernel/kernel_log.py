"""Reads the kernel's log, which tells addresses."""

import ctypes

from probe import attempt, syscall

attempt("syslog", syscall, "syslog", 3, ctypes.create_string_buffer(256), 256)
