"""Becomes another user, whose files and processes it would own."""

import os

from probe import attempt

attempt("setuid 12345", os.setuid, 12345)
attempt("setgid 12345", os.setgid, 12345)
