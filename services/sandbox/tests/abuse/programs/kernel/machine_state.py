"""Touches what belongs to the machine: host name, swap, accounting, quotas, reboot with a wrong magic number."""

import ctypes
import platform

from probe import reach

text = ctypes.c_char_p
node = platform.node().encode()
reach("sethostname", text(node), len(node))
reach("swapon", text(b"/nonexistent"), 0)
reach("acct", text(b"/nonexistent"))
reach("reboot", 1, 2, 3, 0)
