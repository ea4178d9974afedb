"""Looks for memory that it shares with other processes to write to: what one call puts there, another would read."""

from pathlib import Path

from probe import got, held

try:
    shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.split()[1].startswith("rw-s")]
except OSError as error:
    shared = []
    held("/proc/self/maps", error)
(got if shared else held)("memory that is shared and written", shared[:3])
