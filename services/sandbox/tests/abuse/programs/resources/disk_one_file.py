"""Writes one big file: 200 MiB where 16 are allowed."""

from probe import got, held

written = 0
try:
    with open("big", "wb", buffering=0) as file:
        for _ in range(200):
            written += file.write(bytes(1 << 20))
except OSError as error:
    held(f"after {written >> 20} MiB", error)
else:
    got("one big file, MiB", written >> 20)
