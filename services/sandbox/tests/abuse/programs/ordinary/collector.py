"""Makes circles of garbage, which the collector has to take."""

import gc

from probe import ok


class Node:
    def __init__(self):
        self.circle = self
        self.weight = bytearray(1 << 18)


for _ in range(1200):
    Node()
gc.collect()
ok("garbage")
