"""Reserves blocks without writing: posix_fallocate of 1 GiB."""

import os

from probe import attempt


def allocate():
    with open("reserved", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 30)


attempt("reserve 1 GiB", allocate)
