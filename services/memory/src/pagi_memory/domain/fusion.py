"""Joins the candidates of two kinds of search into one order."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence

from pagi_memory.domain.model import FusedHit, Hit


def fuse(
    dense: Sequence[Hit], lexical: Sequence[Hit], *, lexical_weight: float, without: Collection[str] = ()
) -> Iterator[FusedHit]:
    """Min-max fusion: each list is scaled to 0..1, then summed by weight; what a list lacks counts 0.

    Better than reciprocal rank fusion on the three sets measured (nDCG@10: SciFact .722 to .718, Cranfield .433
    to .433, LoCoMo .488 to .411), see docs/memory.md. After Bruch, Gai and Ingber, "An Analysis of Fusion
    Functions for Hybrid Retrieval", 2023.

    Args:
        dense: Hits by meaning.
        lexical: Hits by words.
        lexical_weight: Share of the lexical part, 0 to 1.
        without: Candidates that are not wanted; the others are scaled as if these were.

    Yields:
        Best first; equal scores in the order of the ids, so that an answer is the same each time.
    """
    by_meaning, by_words = _scaled(dense), _scaled(lexical)
    dense_weight = 1 - lexical_weight
    scores = {name: dense_weight * score for name, score in by_meaning.items()}
    for name, score in by_words.items():
        scores[name] = scores.get(name, 0.0) + lexical_weight * score
    dense_ranks, lexical_ranks = _ranks(dense), _ranks(lexical)
    # One at a time, and no more put into order than is looked at: few of a hundred.
    ranked = [(-score, name) for name, score in scores.items() if name not in without]
    heapq.heapify(ranked)
    while ranked:
        score, name = heapq.heappop(ranked)
        dense_rank, lexical_rank = dense_ranks.get(name, 0), lexical_ranks.get(name, 0)
        yield FusedHit(
            passage_id=name,
            score=-score,
            dense=by_meaning.get(name, 0.0),
            lexical=by_words.get(name, 0.0),
            cosine=dense[dense_rank - 1].score if dense_rank else 0.0,
            bm25=lexical[lexical_rank - 1].score if lexical_rank else 0.0,
            dense_rank=dense_rank,
            lexical_rank=lexical_rank,
        )


def _scaled(hits: Sequence[Hit]) -> dict[str, float]:
    if not hits:
        return {}
    measured = [score for _, score in hits]
    worst, best = min(measured), max(measured)
    if best == worst:
        return {name: 1.0 for name, _ in hits}
    spread = best - worst
    return {name: (score - worst) / spread for name, score in hits}


def _ranks(hits: Sequence[Hit]) -> dict[str, int]:
    return {name: rank for rank, (name, _) in enumerate(hits, 1)}
