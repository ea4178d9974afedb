"""Removes its workspace, or puts a link in its place, for the next call to follow."""

import os

from probe import TARGET, attempt

here = TARGET["workspace"]
attempt("move the workspace away", os.rename, here, here + "-moved")
attempt("a link in its place", os.symlink, TARGET["outside"], here)
