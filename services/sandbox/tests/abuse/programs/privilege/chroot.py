"""Leaves the root directory by making another: the classical escape. Source: chroot(2)."""

import os

from probe import attempt

os.mkdir("jail")
attempt("chroot", os.chroot, "jail")
