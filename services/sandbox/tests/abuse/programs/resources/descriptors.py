"""Opens descriptors until it is refused; above a thousand is a harm."""

import os

from probe import got, held

descriptors = []
try:
    while len(descriptors) < 2000:
        descriptors += os.pipe()
except OSError as error:
    held(f"after {len(descriptors)}", error)
else:
    got("descriptors", len(descriptors))
