"""Prints without end to the other stream."""

import sys

while True:
    sys.stderr.write("y" * 65536)
