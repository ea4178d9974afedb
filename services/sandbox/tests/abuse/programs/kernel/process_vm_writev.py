"""Writes into the service's memory; the address is wrong on purpose. Source: process_vm_writev(2)."""

import ctypes

from probe import TARGET, reach


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


buffer = ctypes.create_string_buffer(8)
here, there = Vector(ctypes.addressof(buffer), 8), Vector(8, 8)
reach("process_vm_writev", TARGET["service"], ctypes.byref(here), 1, ctypes.byref(there), 1, 0, also=(3,))
