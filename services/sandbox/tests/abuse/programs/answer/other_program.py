"""Becomes another program, which answers nothing."""

import os

try:
    os.execv("/bin/true", ["true"])
except OSError:
    os._exit(0)
