"""Burns every processor with eight processes until its time is over."""

import os

for _ in range(3):
    try:
        os.fork()
    except OSError:
        break
while True:
    pass
