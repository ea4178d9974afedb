"""Mounts a file system over its workspace; also by the newer calls."""

import ctypes

from probe import reach

text = ctypes.c_char_p
reach("mount", text(b"none"), text(b"/nonexistent"), text(b"tmpfs"), 0, 0)
reach("fsopen", text(b"tmpfs"), 0)
reach("open_tree", -100, text(b"."), 1)
reach("move_mount", -1, text(b""), -1, text(b""), 0)
reach("umount2", text(b"/nonexistent"), 0)
reach("pivot_root", text(b"/nonexistent"), text(b"/nonexistent"))
