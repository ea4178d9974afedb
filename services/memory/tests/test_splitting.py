from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pagi_memory.adapters.semantic_splitter import SemanticSplitter
from pagi_memory.adapters.wordpiece_tokens import WordPieceTokens
from pagi_memory.domain.sections import sections_of

TOKENS = WordPieceTokens()
MARKDOWN = """\
Before any heading.

# Care ##

Introduction.

## Water

Fresh water daily.

```bash
# not a heading
echo
```

### Bowls
Steel.

## Food

Twice a day.

# Legal
"""


def test_sections_carry_their_headings_and_place() -> None:
    found = list(sections_of(MARKDOWN))
    assert [(section.headings, section.text.split()[0]) for section in found] == [
        ((), "Before"),
        (("Care",), "Introduction."),
        (("Care", "Water"), "Fresh"),
        (("Care", "Water", "Bowls"), "Steel."),
        (("Care", "Food"), "Twice"),
    ]
    assert all(MARKDOWN[s.offset : s.offset + len(s.text)] == s.text for s in found)
    assert "# not a heading" in found[2].text


@pytest.mark.parametrize(
    ("line", "headings"),
    [
        ("#no space", ()),
        ("####### seven", ()),
        ("    # code", ()),
        ("#", ()),
        ("  ## two", ("two",)),
        ("# a # b #", ("a # b",)),
    ],
)
def test_headings_are_those_of_commonmark(line: str, headings: tuple[str, ...]) -> None:
    assert list(sections_of(f"{line}\nbody\n"))[-1].headings == headings


@given(st.text(alphabet="#`~ ab\n\r\u2028", max_size=80))
def test_sections_never_lose_their_place(text: str) -> None:
    for section in sections_of(text):
        assert text[section.offset : section.offset + len(section.text)] == section.text


def test_no_piece_is_longer_than_the_model_reads() -> None:
    body = (
        "# "
        + "A very long heading " * 10
        + "\n\n"
        + "\n\n".join(f"Sentence number {i} about tea. " * 9 for i in range(40))
    )
    pieces = SemanticSplitter(TOKENS.count, capacity=254).split("a.md", body)
    sizes = [TOKENS.count(piece.embedded_text) for piece in pieces]
    assert max(sizes) <= 254
    assert sum(sizes) / len(sizes) > 150
    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    assert all(body[piece.offset :].startswith(piece.text) for piece in pieces)


def test_a_code_block_that_fits_is_not_cut() -> None:
    code = "```python\n" + "x = compute(1, 2)\n" * 12 + "```"
    text = "# Code\n\n" + "Prose about it. " * 30 + f"\n\n{code}\n\n" + "More prose. " * 30
    pieces = SemanticSplitter(TOKENS.count, capacity=150).split("a.md", text)
    assert len(pieces) > 2
    assert sum(code in piece.text for piece in pieces) == 1


def test_plain_text_has_no_headings() -> None:
    [piece] = SemanticSplitter(TOKENS.count, capacity=254).split("a.txt", "\n# 1 of the list\nmore\n")
    assert (piece.headings, piece.offset) == ((), 1)
    assert SemanticSplitter(TOKENS.count, capacity=254).split("a.txt", " \n ") == []


def test_front_matter_is_not_searched_and_positions_stay_true() -> None:
    text = "---\ntitle: Tea\n---\n# Tea\n\nGreen tea steeps."
    [piece] = SemanticSplitter(TOKENS.count, capacity=254).split("a.md", text)
    assert (piece.text, piece.headings, piece.tokens) == ("Green tea steeps.", ("Tea",), TOKENS.count(piece.text))
    assert text[piece.offset :] == "Green tea steeps."
    [ruled] = SemanticSplitter(TOKENS.count, capacity=254).split("a.html", "---\nno front matter\n---\n")
    assert "no front matter" in ruled.text


def test_tokens_are_counted_to_the_end() -> None:
    assert TOKENS.count("word " * 1000) == 1000
