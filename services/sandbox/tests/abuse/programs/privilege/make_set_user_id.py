"""Makes a program that raises whoever starts it, and waits for another user to do so."""

import os

from probe import got, held

open("raise", "wb").close()
try:
    os.chmod("raise", 0o6777)
except OSError as error:
    held("chmod 6777", error)
else:
    mode = os.stat("raise").st_mode & 0o7000
    # In the name of an ordinary user, or of a session's own, it raises nobody to more than that user.
    (got if mode & 0o6000 and os.getuid() == 0 else held)("a set-user-id file of root's", oct(mode))
