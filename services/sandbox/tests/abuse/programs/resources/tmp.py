"""Fills /tmp, which all share."""

import os

from probe import TARGET, attempt, held, ok


def fill():
    with open(f"/tmp/{TARGET['mark']}-fill", "wb") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))


if os.path.exists(TARGET["outside"]):
    attempt("fill the shared /tmp", fill)
else:
    # A /tmp of its own: what is written there must not be more than the disk limit.
    try:
        fill()
        attempt("fill a private /tmp over the limit", lambda: 100)
    except OSError as error:
        held("fill a private /tmp", error)
        ok("private /tmp")
