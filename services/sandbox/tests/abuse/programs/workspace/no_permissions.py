"""Takes its own rights away, so that the service can neither list nor clean."""

import os

from probe import held, ok

os.makedirs("closed/inner")
open("closed/inner/file", "wb").close()
try:
    os.chmod("closed/inner/file", 0)
    os.chmod("closed/inner", 0)
    os.chmod("closed", 0)
except OSError as error:
    held("chmod", error)
ok("left")
