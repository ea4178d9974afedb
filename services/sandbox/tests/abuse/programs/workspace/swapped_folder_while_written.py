"""Swaps a folder and a link to outside, while write_file writes below it. Source: CWE-367."""

import contextlib
import os
import shutil
import time

from probe import TARGET, held

os.mkdir("real")
os.symlink(TARGET["outside"], "link")
deadline = time.monotonic() + 0.4
swaps = 0
while time.monotonic() < deadline:
    # write_file makes a folder where it finds none, which then stands in the way.
    with contextlib.suppress(OSError):
        os.rename("real", "folder")
        os.rename("folder", "real")
        os.rename("link", "folder")
        os.rename("folder", "link")
        swaps += 1
        continue
    shutil.rmtree("folder", ignore_errors=True)
held("swaps", swaps)
