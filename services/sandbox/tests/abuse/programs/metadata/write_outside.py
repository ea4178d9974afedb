"""Writes, appends and truncates a world-writable file outside."""

import os
from pathlib import Path

from probe import TARGET, attempt

attempt("write", Path(TARGET["writable"]).write_text, "changed")
attempt("append", os.open, TARGET["writable"], os.O_WRONLY | os.O_APPEND)
attempt("truncate", os.truncate, TARGET["writable"], 0)
