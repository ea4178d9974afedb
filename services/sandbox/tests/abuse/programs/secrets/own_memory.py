"""Searches what it inherited from the fork server for keys: all of its own memory, and every living object."""

import ctypes
import gc
import re
from pathlib import Path

from probe import got, held

# Built late, so that the search does not find itself.
pattern = re.compile(b"-".join((b"PAGI", b"CANARY", b"[0-9a-f]{32}")))
found = [one for one in gc.get_objects() if isinstance(one, dict) and pattern.search(repr(one)[:100_000].encode())]
try:
    maps = Path("/proc/self/maps").read_text().splitlines()
except OSError as error:
    maps = []
    held("/proc/self/maps", error)
for line in maps:
    if " rw-p " not in line:
        continue
    start, end = (int(one, 16) for one in line.split()[0].split("-"))
    match = pattern.search(ctypes.string_at(start, end - start))
    if match:
        found.append(match[0])
(got if found else held)("keys in inherited memory", found[:1])
