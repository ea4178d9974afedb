"""Cuts texts with semantic-text-splitter, counting the tokens of the embedding model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pagi_memory.domain.front_matter import front_matter_end
from pagi_memory.domain.model import Piece
from pagi_memory.domain.sections import Section, sections_of

if TYPE_CHECKING:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    Cutter = type[MarkdownSplitter] | type[TextSplitter]

# Text, headings, offset.
_Place = tuple[str, tuple[str, ...], int]

# Everything else is Markdown, or was made Markdown when it was read.
_PLAIN = frozenset({".txt", ".csv"})
_FRONTED = frozenset({".md", ".markdown"})


class SemanticSplitter:
    """`Splitter`: along headings, then along blocks and sentences, never more tokens than the model reads.

    Characters are no measure: of pieces of 1,000 characters 18 to 68 % exceed 256 tokens, and the model leaves
    the rest out without a word. A fenced code block that fits is never cut.
    """

    def __init__(self, count_tokens: Callable[[str], int], *, capacity: int) -> None:
        """Makes the splitter.

        Args:
            count_tokens: Tokens of a text, without the special ones.
            capacity: Most tokens of a piece together with its headings.
        """
        self._count_tokens = count_tokens
        self._capacity = capacity

    @property
    def identity(self) -> str:
        """See `Splitter.identity`."""
        return f"sections-2/{self._capacity}"

    def split(self, source: str, text: str) -> list[Piece]:
        """See `Splitter.split`."""
        # Imported here: the package is 18 MB of native code that only ingestion needs.
        from semantic_text_splitter import MarkdownSplitter, TextSplitter

        suffix = PurePosixPath(source).suffix.lower()
        begin = front_matter_end(text) if suffix in _FRONTED else 0
        if suffix in _PLAIN:
            places = self._places([Section((), 0, text)], TextSplitter)
        else:
            places = self._places(sections_of(text[begin:]), MarkdownSplitter)
        return [
            Piece(body, headings, begin + offset, i, self._count_tokens(body))
            for i, (body, headings, offset) in enumerate(places)
        ]

    def _places(self, sections: Iterable[Section], splitter: Cutter) -> Iterator[_Place]:
        for section in sections:
            title_tokens = self._count_tokens(" > ".join(section.headings))
            room = max(self._capacity // 2, self._capacity - title_tokens)
            for offset, body in splitter.from_callback(self._count_tokens, room).chunk_indices(section.text):
                if body.strip():
                    yield body, section.headings, section.offset + offset
