"""Gives another's file away."""

import os

from probe import TARGET, trying

trying("chown", os.chown, TARGET["writable"], os.getuid(), os.getgid())
trying("lchown", os.lchown, TARGET["writable"], os.getuid(), os.getgid())
