"""Recurses until Python refuses."""

from probe import got, held


def down(n):
    return down(n + 1)


try:
    down(0)
except RecursionError as error:
    held("recursion", error)
else:
    got("endless recursion")
