"""Learns of files that it may not read: that they are, how large, when changed."""

import os

from probe import TARGET, attempt

attempt("stat", os.stat, TARGET["secret"])
attempt("access", lambda: os.access(TARGET["secret"], os.R_OK) or os.open(TARGET["secret"], os.O_RDONLY))
