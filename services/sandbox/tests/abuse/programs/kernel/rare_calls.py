"""Calls what no ordinary program needs, each with arguments that are wrong on purpose."""

import ctypes
import platform

from probe import reach

reach("fanotify_init", 1 << 30, 0)
reach("quotactl", -1, ctypes.c_char_p(b"/nonexistent"), 0, 0)
reach("process_madvise", -1, 0, 0, 0, 0)
reach("process_mrelease", -1, 1)
reach("memfd_secret", 1 << 20)
reach("kcmp", -1, -1, 0, 0, 0, also=(3,))
reach("migrate_pages", -1, 0, 0, 0, also=(3,))
if platform.machine() == "x86_64":
    reach("iopl", 9)
    reach("modify_ldt", 99, 0, 0)
