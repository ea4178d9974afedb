"""Allocates 4 GiB at once and touches it."""

b"\1" * (4 << 30)
