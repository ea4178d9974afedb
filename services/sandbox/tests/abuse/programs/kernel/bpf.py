"""Makes a map in the kernel. Source: CVE-2020-8835, CVE-2021-3490 and many more. Made by itself: a filter may kill."""

import ctypes
import struct

from probe import attempt, syscall

# BPF_MAP_CREATE of an array of one element.
attributes = ctypes.create_string_buffer(struct.pack("=4I", 2, 4, 4, 1), 128)
attempt("bpf", syscall, "bpf", 0, attributes, 128)
