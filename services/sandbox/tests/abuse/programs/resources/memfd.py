"""Fills files that live in memory and in no limit on address space. Source: memfd_create(2)."""

import os

from probe import got, held

try:
    descriptors = [os.memfd_create(str(number)) for number in range(8)]
    for descriptor in descriptors:
        for _ in range(60):
            os.write(descriptor, bytes(1 << 20))
except OSError as error:
    held("memfd_create", error)
else:
    got("memory outside of the limit, MiB", 480)
