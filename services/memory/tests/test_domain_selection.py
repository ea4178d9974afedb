from __future__ import annotations

import pytest
from pagi_memory.domain.model import FusedHit, KnowledgeBase, Passage, Piece, ScoredPassage, Shelf
from pagi_memory.domain.selection import Bounds, Selection

LONG = "Green tea steeps for three minutes in water of eighty degrees, black tea for five minutes in boiling water."


def passage(
    name: str,
    text: str,
    *,
    base: KnowledgeBase = KnowledgeBase.DOMAIN,
    index: int = 0,
    offset: int = 0,
    tokens: int = 10,
) -> Passage:
    return Passage(f"{name}{index}", Shelf("default", base), name, Piece(text, ("Tea",), offset, index, tokens))


def choose(bounds: Bounds, *offered: Passage, merge: bool = False) -> list[ScoredPassage]:
    selection = Selection(bounds)
    for rank, one in enumerate(offered):
        selection.offer(one, FusedHit(one.id, 1 - rank / 10, 0.5, 0.5))
    return selection.chosen(merge=merge)


def ids(found: list[ScoredPassage]) -> list[str]:
    return [scored.passage.id for scored in found]


def test_near_duplicates_are_dropped_and_the_better_one_stays() -> None:
    offered = [
        passage("a", LONG),
        passage("b", LONG.upper().replace(",", ";")),
        passage("c", LONG.replace("boiling", "hot")),
        passage("d", "Something else."),
        passage("e", "something else"),
    ]
    assert ids(choose(Bounds(9), *offered)) == ["a0", "c0", "d0"]


def test_rows_that_differ_in_a_figure_are_not_duplicates() -> None:
    offered = [passage("a", "Plant 1 needs 1 litre."), passage("b", "Plant 2 needs 2 litre.")]
    assert len(choose(Bounds(9), *offered)) == 2


def test_empty_texts_are_no_duplicates_of_each_other() -> None:
    assert len(choose(Bounds(9), passage("a", "***"), passage("b", "---"))) == 2


def test_quotas_leave_room_for_the_others() -> None:
    body = [passage(f"b{i}", f"kettle number {i} is here", base=KnowledgeBase.BODY) for i in range(3)]
    offered = [*body, passage("d", "a domain passage")]
    assert ids(choose(Bounds(2), *offered)) == ["b00", "b10"]
    assert ids(choose(Bounds(2, quotas={KnowledgeBase.BODY: 1}), *offered)) == ["b00", "d0"]


@pytest.mark.parametrize(("tokens", "expected"), [(0, 3), (30, 3), (29, 2), (10, 1), (9, 0)])
def test_the_budget_is_never_exceeded(tokens: int, expected: int) -> None:
    offered = [passage(name, f"text of {name} alone") for name in "abc"]
    found = choose(Bounds(9, tokens), *offered)
    assert len(found) == expected
    assert not tokens or sum(scored.passage.piece.tokens for scored in found) <= tokens


def test_a_passage_that_does_not_fit_lets_a_smaller_one_in() -> None:
    offered = [
        passage("a", "first of all", tokens=8),
        passage("b", "too large", tokens=9),
        passage("c", "small", tokens=2),
    ]
    assert ids(choose(Bounds(9, 10), *offered)) == ["a0", "c0"]


def test_neighbours_become_one_in_the_place_of_the_best() -> None:
    offered = [
        passage("other", "Somewhere else entirely."),
        passage("a", "Second part.", index=1, offset=12),
        passage("a", "First part.", index=0, offset=0),
        passage("a", "Fourth part.", index=3, offset=50),
        passage("a", "Third part.", index=2, offset=26),
    ]
    found = choose(Bounds(4), *offered, merge=True)
    assert ids(found) == ["other0", "a1", "a3"]
    joined = found[1]
    assert joined.passage.piece.text == "First part. Second part."
    assert (joined.merged, joined.passage.piece.index, joined.passage.piece.offset) == (2, 0, 0)
    assert (joined.score, joined.passage.piece.tokens) == (0.9, 20)
    assert found[2].merged == 1


def test_other_sections_and_other_documents_are_not_joined() -> None:
    one, two = passage("a", "One.", index=0), passage("b", "Two.", index=1)
    other = Passage("a1", one.shelf, "a", Piece("Other section.", ("Coffee",), 5, 1, 3))
    assert all(scored.merged == 1 for scored in choose(Bounds(9), one, two, other, merge=True))
