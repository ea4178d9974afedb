"""Ends with a value whose text is 50 MB."""

value = "x" * 50_000_000
value  # noqa: B018 a last expression is what the tool answers
