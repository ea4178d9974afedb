"""The sections of a Markdown text: what stands between two headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A heading longer than this would leave no room for the text below it in what the embedder reads.
MAX_HEADING_CHARS = 120

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True, slots=True)
class Section:
    """The text below a heading up to the next one; `offset` in characters of the whole text."""

    headings: tuple[str, ...]
    offset: int
    text: str


def sections_of(text: str) -> Iterator[Section]:
    """The sections in order, without their heading lines; empty ones are left out.

    Headings are the ATX headings of CommonMark (`#` to `######`). A `#` inside a fenced code block is none.
    """
    path: list[tuple[int, str]] = []
    begin = position = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        fence, in_code = _fence_after(line, fence)
        if not in_code and (heading := _HEADING.match(line.rstrip("\r\n"))):
            yield from _section(path, begin, text[begin:position])
            level = len(heading[1])
            path = [above for above in path if above[0] < level]
            path.append((level, (heading[2] or "").strip()[:MAX_HEADING_CHARS]))
            begin = position + len(line)
        position += len(line)
    yield from _section(path, begin, text[begin:])


def _section(path: list[tuple[int, str]], offset: int, text: str) -> Iterator[Section]:
    if text.strip():
        yield Section(tuple(title for _, title in path if title), offset, text)


def _fence_after(line: str, fence: str) -> tuple[str, bool]:
    """The fence that is open after a line (empty: none), and whether the line belongs to a code block."""
    mark = _FENCE.match(line)
    if not fence:
        return (mark[1], True) if mark else ("", False)
    closes = mark and mark[1].startswith(fence) and not line[mark.end() :].strip()
    return ("" if closes else fence), True
