"""Leaves a tree that is 550 folders deep, on which a recursive walk breaks."""

import os

from probe import held, ok

try:
    for _ in range(550):
        os.mkdir("d")
        os.chdir("d")
except OSError as error:
    held("mkdir", error)
ok("left")
