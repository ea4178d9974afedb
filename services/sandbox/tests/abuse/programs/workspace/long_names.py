"""Makes names of 255 bytes, and paths of more than 4 KB by going down step by step."""

import os

from probe import held, ok

open("n" * 255, "wb").close()
try:
    open("n" * 4096, "wb").close()
except OSError as error:
    held("a name of 4096 bytes", error)
for _ in range(40):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
open("bottom", "wb").close()
ok("a path of 8 KB")
