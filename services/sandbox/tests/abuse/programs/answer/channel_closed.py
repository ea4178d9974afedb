"""Closes every descriptor, the answer's among them, and lives on."""

import os
import time

os.closerange(0, 256)
time.sleep(20)
