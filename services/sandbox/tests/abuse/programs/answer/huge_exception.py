"""Raises with a text of 50 MB."""

raise ValueError("x" * 50_000_000)
