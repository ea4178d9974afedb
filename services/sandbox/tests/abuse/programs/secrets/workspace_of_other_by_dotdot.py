"""The same, from its own workspace upwards."""

import os
from pathlib import Path

from probe import TARGET, attempt

relative = os.path.relpath(TARGET["other_workspace"], TARGET["workspace"])
attempt("read another session's file by ..", Path(relative, "private.txt").read_text)


def enter():
    # To be there is nothing yet: what counts is what can be seen from there.
    os.chdir(relative)
    return os.listdir(".")


attempt("enter and list it", enter)
