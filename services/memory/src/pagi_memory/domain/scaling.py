"""Makes the scores of two kinds of search comparable: as measured, cosines and BM25 cannot be added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pagi_memory.domain.model import Hit

# BM25 per word of the query from which on a passage counts as holding what is asked. A word that one passage in a
# hundred holds weighs about 4.5, one in ten about 2; of a question in other words than the text most find nothing.
ENOUGH_PER_WORD = 2.5


class Scaled(NamedTuple):
    """What each candidate counts, 0 to 1, by its id; what a list lacks counts 0."""

    dense: dict[str, float]
    lexical: dict[str, float]


def by_evidence(dense: Sequence[Hit], lexical: Sequence[Hit], *, candidates: int, words: int) -> Scaled:
    """Scales each list so that it counts for as much as it tells, whatever the query and the collection.

    A cosine has a scale of its own: it counts as a share of the best one. BM25 has none: what counts is how far a
    passage stands out of its list (the list as a vector has length 1), and less where even the best passage holds
    little of what is asked. Both are counted from the least that a passage outside of the list may have: the last
    one's score where the list was cut off, else 0. So a list in which all are alike decides nothing.

    The theoretical least after Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023;
    that scores which stand out tell of a good list after Shtok et al., "Predicting Query Performance by Query-Drift
    Estimation", 2012.

    Args:
        dense: Hits by meaning.
        lexical: Hits by words.
        candidates: How many hits were asked for; a shorter list is complete.
        words: How many words of the query were looked up.
    """
    return Scaled(_shares(dense, candidates), _standing_out(lexical, candidates, words))


def by_range(dense: Sequence[Hit], lexical: Sequence[Hit]) -> Scaled:
    """Scales each list from 0, its last, to 1, its best."""
    return Scaled(_ranged(dense), _ranged(lexical))


def _shares(hits: Sequence[Hit], candidates: int) -> dict[str, float]:
    if not hits:
        return {}
    scores = [score for _, score in hits]
    best, least = max(scores), _least(scores, candidates)
    if best <= 0:
        return {name: 0.0 for name, _ in hits}
    # The other direction is as little alike as any.
    return {name: (score - least) / best if score > least else 0.0 for name, score in hits}


def _standing_out(hits: Sequence[Hit], candidates: int, words: int) -> dict[str, float]:
    if not hits:
        return {}
    scores = [score for _, score in hits]
    least = _least(scores, candidates)
    held = min(1.0, max(scores) / (ENOUGH_PER_WORD * max(words, 1)))
    factor = held / (math.hypot(*[score - least for score in scores]) or 1.0)
    return {name: factor * (score - least) for name, score in hits}


def _least(scores: Sequence[float], candidates: int) -> float:
    worst = min(scores)
    # Where all are equal, each still is more than nothing.
    return max(0.0, worst) if len(scores) >= candidates and worst < max(scores) else 0.0


def _ranged(hits: Sequence[Hit]) -> dict[str, float]:
    if not hits:
        return {}
    measured = [score for _, score in hits]
    worst, best = min(measured), max(measured)
    if best == worst:
        return {name: 1.0 for name, _ in hits}
    spread = best - worst
    return {name: (score - worst) / spread for name, score in hits}
