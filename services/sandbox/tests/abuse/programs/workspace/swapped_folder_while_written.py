"""Swaps a folder and a link to outside, while write_file writes below it. Source: CWE-367."""

import os
import time

from probe import TARGET, held

os.mkdir("real")
os.symlink(TARGET["outside"], "link")
deadline = time.monotonic() + 1.0
swaps = 0
while time.monotonic() < deadline:
    os.rename("real", "folder")
    os.rename("folder", "real")
    os.rename("link", "folder")
    os.rename("folder", "link")
    swaps += 1
held("swaps", swaps)
