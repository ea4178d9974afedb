"""Ends with a value whose text is 100 MB."""

"x" * 100_000_000
