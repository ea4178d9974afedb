"""Recurses with the guard off, until the C stack ends. Source: sys.setrecursionlimit's documentation."""

import sys

sys.setrecursionlimit(1 << 30)


class Loop:
    def __getattr__(self, name):
        return getattr(self, name)


repr(Loop().x)
