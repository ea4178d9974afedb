"""Leaves links to outside for write_file to write through."""

import os
from pathlib import Path

from probe import TARGET, attempt

os.symlink(TARGET["writable"], "link")
os.symlink(TARGET["outside"], "folder")
attempt("write through a link", Path("link").write_text, "changed")
