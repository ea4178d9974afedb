"""Takes another's file into its workspace by a hard link. Source: CVE-2018-15664's kin."""

import os
from pathlib import Path

from probe import TARGET, attempt

attempt("link", os.link, TARGET["secret"], "hard")
if os.path.exists("hard"):
    attempt("read the link", Path("hard").read_text)
