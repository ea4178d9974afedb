"""Ends with text that no UTF-8 can hold, and prints bytes that are none."""

import os

os.write(1, b"\xff\xfe\x00" * 1000)
"\ud800\x00\u202e"
