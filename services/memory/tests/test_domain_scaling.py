"""How much each kind of search counts, from what it found alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pagi_memory.domain.fusion import fuse
from pagi_memory.domain.model import Hit
from pagi_memory.domain.scaling import ENOUGH_PER_WORD, by_evidence

CANDIDATES = 10


def hits(scores: list[float], letter: str = "p") -> list[Hit]:
    return [Hit(f"{letter}{i:02}", score) for i, score in enumerate(sorted(scores, reverse=True))]


# In steps, as far as a cosine is exact; what FTS5 gives is 0.000001 at least.
COSINES = st.lists(st.integers(-1_000, 1_000).map(lambda step: step / 1_000), max_size=CANDIDATES).map(hits)
BM25 = st.lists(st.floats(1e-6, 1e3), max_size=CANDIDATES).map(hits)


@given(COSINES, BM25, st.integers(0, 64))
def test_each_part_is_between_nothing_and_all_and_keeps_the_order(
    dense: list[Hit], lexical: list[Hit], words: int
) -> None:
    scaled = by_evidence(dense, lexical, candidates=CANDIDATES, words=words)
    for found, parts in ((dense, scaled.dense), (lexical, scaled.lexical)):
        assert parts.keys() == {hit.passage_id for hit in found}
        counted = [parts[hit.passage_id] for hit in found]
        assert all(0 <= part <= 1 + 1e-12 for part in counted)
        assert counted == sorted(counted, reverse=True)
    for weight in (0.0, 0.3, 1.0):
        ranked = list(fuse(dense, lexical, lexical_weight=weight, scaled=scaled))
        assert all(0 <= hit.score <= 1 + 1e-12 for hit in ranked)
        assert all(hit.score == pytest.approx(weight * hit.lexical + (1 - weight) * hit.dense) for hit in ranked)


@given(BM25.filter(bool), st.integers(1, 64))
def test_words_count_in_all_no_more_than_one_passage_that_stands_alone(lexical: list[Hit], words: int) -> None:
    parts = by_evidence([], lexical, candidates=CANDIDATES, words=words).lexical
    held = min(1.0, lexical[0].score / (ENOUGH_PER_WORD * words))
    assert math.hypot(*parts.values()) == pytest.approx(held)
    alone = by_evidence([], lexical[:1], candidates=CANDIDATES, words=words).lexical
    assert alone == {lexical[0].passage_id: pytest.approx(held)}


@given(COSINES, st.floats(0.1, 1))
def test_a_cosine_counts_as_a_share_of_the_best(dense: list[Hit], factor: float) -> None:
    less = [Hit(name, score * factor) for name, score in dense]
    one = by_evidence(dense, [], candidates=CANDIDATES, words=1).dense
    other = by_evidence(less, [], candidates=CANDIDATES, words=1).dense
    assert one == pytest.approx(other)


def test_the_same_words_decide_where_one_passage_stands_out_and_not_where_all_are_alike() -> None:
    near = hits([0.50, 0.32] + [0.2] * 8)
    stands_out = [Hit("p01", 30.0), Hit("p00", 20.0), *hits([10.0] * 8, "q")]
    alike = [Hit("p01", 30.0), Hit("p00", 28.0), *hits([28.0] * 7 + [26.0], "q")]
    # In both, p00 is half of the way from the last to the best.
    assert best(near, stands_out) == "p01"
    assert best(near, alike) == "p00"


def test_words_count_less_where_the_best_passage_holds_little_of_what_is_asked() -> None:
    near, worded = hits([0.50, 0.40] + [0.1] * 8), [Hit("p01", 6.0), Hit("p05", 2.0)]
    assert best(near, worded, words=2) == "p01"
    assert best(near, worded, words=12) == "p00"


def test_near_cosines_leave_it_to_the_words_and_distant_ones_do_not() -> None:
    worded = [Hit("p01", 9.0), Hit("p05", 8.0), Hit("p06", 7.0)]
    assert best(hits([0.40, 0.39] + [0.35] * 8), worded) == "p01"
    assert best(hits([0.90, 0.30] + [0.25] * 8), worded) == "p00"


def test_a_name_that_one_passage_holds_finds_it() -> None:
    parts = by_evidence(hits([0.3, 0.29, 0.2, 0.15]), [Hit("p03", 5.0)], candidates=CANDIDATES, words=1)
    assert parts.lexical == {"p03": 1.0}
    assert parts.dense["p03"] == pytest.approx(0.5), "the list is complete: it is counted from nothing"


def test_a_list_that_was_cut_off_is_counted_from_its_last() -> None:
    dense = hits([0.8, 0.6, 0.4])
    assert by_evidence(dense, [], candidates=3, words=1).dense == pytest.approx({"p00": 0.5, "p01": 0.25, "p02": 0.0})
    assert by_evidence(dense, [], candidates=4, words=1).dense == pytest.approx({"p00": 1, "p01": 0.75, "p02": 0.5})
    assert by_evidence(dense[:1], dense[:1], candidates=1, words=0) == ({"p00": 1.0}, {"p00": pytest.approx(0.32)})


def test_the_other_direction_counts_nothing() -> None:
    assert by_evidence(hits([-0.1, -0.5]), [], candidates=2, words=1).dense == {"p00": 0.0, "p01": 0.0}
    assert by_evidence(hits([0.2, -0.5]), [], candidates=2, words=1).dense == {"p00": 1.0, "p01": 0.0}


def best(dense: list[Hit], lexical: list[Hit], *, words: int = 3) -> str:
    scaled = by_evidence(dense, lexical, candidates=CANDIDATES, words=words)
    return next(fuse(dense, lexical, lexical_weight=0.5, scaled=scaled)).passage_id
