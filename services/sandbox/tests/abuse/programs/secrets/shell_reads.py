"""Lets other programs read for it: cat, cp, tar, a shell."""

import subprocess

from probe import TARGET, got, held

for command in (
    ["cat", TARGET["secret"]],
    ["cp", TARGET["secret"], "copy.txt"],
    ["/bin/sh", "-c", f"read line < {TARGET['secret']}; echo $line"],
):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except OSError as error:
        held(command[0], error)
        continue
    (got if done.returncode == 0 and (done.stdout.strip() or command[0] == "cp") else held)(
        command[0], done.stdout + done.stderr
    )
