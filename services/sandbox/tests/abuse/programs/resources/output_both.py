"""Prints to both streams at once, by threads and children."""

import os

os.fork()
while True:
    os.write(1, b"x" * 4096)
    os.write(2, b"y" * 4096)
