"""Ends with a value whose text is 100 MB."""

value = "x" * 100_000_000
value  # noqa: B018 a last expression is what the tool answers
