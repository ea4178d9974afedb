"""Opens devices and kernel files that own the machine."""

import os

from probe import attempt

for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/fuse", "/dev/net/tun"):
    if os.path.exists(path):
        attempt(f"open {path}", os.open, path, os.O_RDWR)
for path in (
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/sys/kernel/uevent_helper",
    "/proc/sys/kernel/modprobe",
):
    if os.path.exists(path):
        attempt(f"open {path} for writing", os.open, path, os.O_WRONLY)
