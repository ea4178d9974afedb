"""Writes 400 MiB in small files, which no limit on a file's size sees. Who measures from time to time comes late."""

from probe import got, held

written = 0
try:
    for number in range(1600):
        with open(f"part-{number}", "wb", buffering=0) as file:
            written += file.write(bytes(1 << 18))
except OSError as error:
    held(f"after {written >> 20} MiB", error)
if written > 300 << 20:
    got("many files, MiB", written >> 20)
