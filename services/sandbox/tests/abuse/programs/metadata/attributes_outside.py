"""Writes and removes extended attributes of another's file."""

import os

from probe import TARGET, trying

trying("setxattr", os.setxattr, TARGET["writable"], "user.abuse", b"x")
