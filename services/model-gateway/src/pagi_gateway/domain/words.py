"""Texts cut into words, for providers that have a whole answer and stream it."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\S+\s*|\s+")


def words_of(text: str) -> list[str]:
    """Splits a text into words, each with the white space after it; joined they are the text again."""
    return _PIECE.findall(text)
