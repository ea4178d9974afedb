"""Moves files across the border, in and out."""

import os
from pathlib import Path

from probe import TARGET, attempt

Path("mine").write_text("x")
attempt("move out", os.rename, "mine", TARGET["outside"] + "/moved")
attempt("move in", os.rename, TARGET["writable"], "taken")
