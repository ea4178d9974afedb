"""Leaves by .. in every spelling."""

import os
from pathlib import Path

from probe import TARGET, attempt

target = TARGET["secret"].lstrip("/")
for way in ("../" * 30, "./" + "../" * 30, "a/../" + "../" * 30, "..//" * 30):
    os.makedirs("a", exist_ok=True)
    attempt(f"read by {way[:12]}", Path(way + target).read_text)
attempt("write by ..", Path("../planted.txt").write_text, "x")
