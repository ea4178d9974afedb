"""Writes, appends and truncates a world-writable file outside."""

import os
from pathlib import Path

from probe import TARGET, attempt

attempt("write", Path(TARGET["writable"]).write_text, "changed")
attempt("append", lambda: open(TARGET["writable"], "a").write("more"))
attempt("truncate", os.truncate, TARGET["writable"], 0)
