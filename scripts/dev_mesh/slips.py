"""What in `.env` looks like a slip. Services pass over names that they do not know, and so would a typing error go."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

from dev_mesh.environment import parse_dotenv

# How alike two names are at least for the one to be taken for the other mistyped; a key of one's own is further off.
_ALIKE = 0.88
_NAME = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")


def slips_in(root: Path) -> list[str]:
    """What is wrong with `root/.env`, for people; nothing where there is no such file."""
    path, example = root / ".env", root / ".env.example"
    if not path.is_file() or not example.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    # The comments name aliases.
    known = set(_NAME.findall(example.read_text(encoding="utf-8")))
    return [*_not_read(text), *_mistyped(parse_dotenv(text), known)]


def _not_read(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#") and not parse_dotenv(line):
            yield f".env, line {number}: this is no NAME=value, and is passed over"


def _mistyped(values: Collection[str], known: Collection[str]) -> Iterator[str]:
    for name in values:
        if name not in known and (near := get_close_matches(name.upper(), known, n=1, cutoff=_ALIKE)):
            yield f".env: no service reads {name}; is {near[0]} meant?"
