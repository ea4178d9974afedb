"""Reads the memory of the service without /proc. Source: process_vm_readv(2)."""

import ctypes

from probe import TARGET, reach


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


buffer = ctypes.create_string_buffer(64)
here = Vector(ctypes.addressof(buffer), 64)
# The fork server is our parent's parent or nearer: what lies at an address here lay there too.
there = Vector(id(Vector), 64)
for name in ("service", "fork_server"):
    # A wrong address is EFAULT, which only who may read is told; ESRCH: it is not to be seen.
    reach("process_vm_readv", TARGET[name], ctypes.byref(here), 1, ctypes.byref(there), 1, 0, also=(3,))
