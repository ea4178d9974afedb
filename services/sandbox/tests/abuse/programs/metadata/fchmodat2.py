"""The same by the newest call, which older rules do not know. Source: fchmodat2(2), Linux 6.6."""

import ctypes

from probe import TARGET, syscall, trying

trying("fchmodat2", syscall, "fchmodat2", -100, ctypes.c_char_p(TARGET["writable"].encode()), 0o777, 0)
