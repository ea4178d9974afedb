"""Loads and removes kernel modules; the arguments are wrong on purpose."""

import ctypes

from probe import reach

reach("init_module", 0, 0, ctypes.c_char_p(b""))
reach("finit_module", -1, ctypes.c_char_p(b""), 0)
reach("delete_module", ctypes.c_char_p(b"no-such-module"), 0)
