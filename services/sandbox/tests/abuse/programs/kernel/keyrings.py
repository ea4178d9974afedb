"""Reads and adds kernel keys. Source: CVE-2016-0728."""

import ctypes

from probe import reach

reach("keyctl", 0, -3, 0, 0, 0)
reach("add_key", ctypes.c_char_p(b"user"), ctypes.c_char_p(b"abuse"), ctypes.c_char_p(b"x"), 1, -3)
