"""Uses most of the memory that it has."""

from probe import ok

block = bytearray(120 << 20)
for page in range(0, len(block), 4096):
    block[page] = 1
ok("120 MiB")
