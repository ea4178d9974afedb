"""Reads through a link to outside; then the file tools are asked to."""

import os
from pathlib import Path

from probe import TARGET, attempt

os.symlink(TARGET["secret"], "link")
os.symlink(TARGET["outside"], "folder")
os.symlink("/", "root")
attempt("read through a link", Path("link").read_text)
attempt("read through a linked folder", Path("folder/secret.txt").read_text)
