"""Swaps a file and a link to outside as fast as it can, while read_file reads. Source: CWE-367."""

import os
import time

from probe import TARGET, held

with open("plain", "w") as file:
    file.write("harmless")
os.symlink(TARGET["secret"], "link")
deadline = time.monotonic() + 0.4
swaps = 0
while time.monotonic() < deadline:
    os.link("plain", "next") if swaps % 2 else os.symlink(TARGET["secret"], "next")
    os.replace("next", "target")
    swaps += 1
held("swaps", swaps)
