"""The block of YAML at the head of a Markdown text in which it says something of itself."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"---[ \t]*\r?\n(?:.*\r?\n)*?---[ \t]*(?:\r?\n|\Z)")
_MOST_CHARS = 10_000


def front_matter_end(text: str) -> int:
    """Where the text begins behind its front matter, in characters; 0 where it has none."""
    block = _BLOCK.match(text[:_MOST_CHARS])
    return block.end() if block else 0
