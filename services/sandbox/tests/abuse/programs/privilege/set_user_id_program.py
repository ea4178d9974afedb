"""Runs the programs that raise whoever starts them."""

import os
import subprocess

from probe import got, held

for path in ("/usr/bin/su", "/usr/bin/sudo", "/usr/bin/pkexec"):
    if os.path.exists(path):
        command = [path, "-c", "id -u", "root"] if path.endswith("su") else [path, "-n", "id", "-u"]
        try:
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=3)
        except (OSError, subprocess.TimeoutExpired) as error:
            held(path, error)
        else:
            (got if done.stdout.strip() == "0" else held)(path, done.stderr)
