"""Looks for the service's keys in its own environment, Python's and the C library's."""

import ctypes
import os

from probe import got, held, libc

found = {name: value for name, value in os.environ.items() if "CANARY" in value}
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc(), "environ")
index = 0
while environ and environ[index]:
    if b"CANARY" in environ[index]:
        found[str(index)] = environ[index]
    index += 1
(got if found else held)("keys in the environment", found)
