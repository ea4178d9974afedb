"""Fills the folder for its temporary files, by many small ones. Who measures from time to time comes late."""

import tempfile

from probe import TARGET, got, held

written = 0
try:
    for number in range(120):
        with open(f"{tempfile.gettempdir()}/{TARGET['mark']}-{number}", "wb", buffering=0) as file:
            for _ in range(5):
                written += file.write(bytes(1 << 20))
except OSError as error:
    held(f"after {written >> 20} MiB", error)
(got if written > 300 << 20 else held)("MiB in the folder for temporary files", written >> 20)
