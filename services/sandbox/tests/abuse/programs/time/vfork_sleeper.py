"""Sleeps in another program."""

import subprocess

try:
    subprocess.run(["sleep", "30"], check=False)
except OSError:
    import time

    time.sleep(30)
