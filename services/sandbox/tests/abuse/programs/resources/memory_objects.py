"""Allocates Python objects without end."""

hoard = []
while True:
    hoard.append(bytearray(1 << 20))
