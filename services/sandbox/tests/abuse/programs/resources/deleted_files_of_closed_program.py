"""Holds deleted files in a program that nobody may read, which hides what it has open. Source: proc(5), dumpable."""

import os
import shutil
import subprocess
import time

from probe import got, held, libc

libc().prctl(4, 0, 0, 0, 0)
written, children = 0, []
try:
    os.umask(0)
    shutil.copyfile("/bin/sleep", "closed")
    again = os.open("closed-2", os.O_CREAT | os.O_WRONLY, 0o111)
    with open("/bin/sleep", "rb") as source:
        os.write(again, source.read())
    os.close(again)
    for number in range(30):
        file = os.open(f"fill-{number}", os.O_CREAT | os.O_RDWR)
        os.unlink(f"fill-{number}")
        for _ in range(15):
            written += os.write(file, bytes(1 << 20))
        children.append(subprocess.Popen(["./closed-2", "30"], pass_fds=(file,)))
        os.close(file)
    time.sleep(0.5)
except OSError as error:
    held(f"after {written >> 20} MiB", error)
(got if written > 300 << 20 else held)("MiB in deleted files", written >> 20)
