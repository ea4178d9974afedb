"""Makes empty files for its temporary files, which cost no blocks and are an inode each."""

import tempfile

from probe import got, held

made = 0
try:
    for number in range(20_000):
        open(f"{tempfile.gettempdir()}/{number}", "wb").close()
        made += 1
except OSError as error:
    held(f"after {made}", error)
(got if made > 10_000 else held)("names", made)
