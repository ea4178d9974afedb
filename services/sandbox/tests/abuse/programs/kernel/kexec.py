"""Loads another kernel; the arguments are wrong on purpose."""

from probe import reach

reach("kexec_load", 0, 1 << 20, 0, 0)
reach("kexec_file_load", -1, -1, 0, 0, 1 << 20)
