"""Computes one huge integer inside one C call."""

7 ** (10**9)
