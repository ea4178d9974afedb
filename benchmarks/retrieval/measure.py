"""Measures rankings against what is known to be right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pagi_memory.domain.fusion import fuse
from pagi_memory.domain.model import Hit
from pagi_memory.domain.ports import Embedder, PassageStore, VectorIndex
from pagi_memory.domain.scaling import by_evidence
from pagi_memory.domain.words import query_words

from benchmarks.retrieval.labelled import Question

CUT = 10
CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class Candidates:
    """What both kinds of search found for a question."""

    question: Question
    dense: Sequence[Hit]
    lexical: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the questions, 0 to 1; `in_five`: of how many the first five held a right passage."""

    ndcg: float
    recall: float
    in_five: int
    questions: int


async def look_up(
    questions: Sequence[Question], store: PassageStore, index: VectorIndex, embedder: Embedder
) -> list[Candidates]:
    """Both kinds of search for every question."""
    found = []
    for question in questions:
        vector = await embedder.embed_query(question.text)
        dense = await index.nearest(vector, question.shelves, CANDIDATES)
        lexical = await store.search_words(query_words(question.text), question.shelves, CANDIDATES)
        found.append(Candidates(question, dense, lexical))
    return found


def quality(found: Sequence[Candidates], lexical_weight: float) -> Quality:
    """The quality at a weight: 0 is meaning alone, 1 is words alone."""
    ndcg = recall = 0.0
    in_five = 0
    for candidates in found:
        worth = candidates.question.worth
        # One kind alone is that kind's list: of the other it does not even get its candidates.
        dense = candidates.dense if lexical_weight < 1 else ()
        lexical = candidates.lexical if lexical_weight > 0 else ()
        words = len(query_words(candidates.question.text))
        scaled = by_evidence(dense, lexical, candidates=CANDIDATES, words=words)
        ranked = [hit.passage_id for hit in fuse(dense, lexical, lexical_weight=lexical_weight, scaled=scaled)]
        ndcg += _ndcg(ranked, worth)
        recall += len(worth.keys() & set(ranked[:CUT])) / len(worth)
        in_five += bool(worth.keys() & set(ranked[:5]))
    count = len(found)
    return Quality(ndcg / count, recall / count, in_five, count)


def _ndcg(ranked: Sequence[str], worth: Mapping[str, float]) -> float:
    """Jaervelin and Kekaelaeinen, "Cumulated gain-based evaluation", 2002, with gains as they are (as BEIR does)."""
    gained = _discounted([worth.get(name, 0.0) for name in ranked[:CUT]])
    return gained / _discounted(sorted(worth.values(), reverse=True)[:CUT])


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
