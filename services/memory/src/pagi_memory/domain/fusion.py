"""Joins the candidates of two kinds of search into one order."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence

from pagi_memory.domain.model import FusedHit, Hit
from pagi_memory.domain.scaling import Scaled, by_range


def fuse(
    dense: Sequence[Hit],
    lexical: Sequence[Hit],
    *,
    lexical_weight: float,
    scaled: Scaled | None = None,
    without: Collection[str] = (),
) -> Iterator[FusedHit]:
    """Adds by weight what each candidate counts in the two lists; what a list lacks counts 0.

    How it does on which texts, see docs/memory.md.

    Args:
        dense: Hits by meaning.
        lexical: Hits by words.
        lexical_weight: Share of the lexical part, 0 to 1.
        scaled: What they count; where nothing is given, from 0 for the last of a list to 1 for its best.
        without: Candidates that are not wanted; the others are scaled as if these were.

    Yields:
        Best first; equal scores in the order of the ids, so that an answer is the same each time.
    """
    by_meaning, by_words = scaled or by_range(dense, lexical)
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


def _ranks(hits: Sequence[Hit]) -> dict[str, int]:
    return {name: rank for rank, (name, _) in enumerate(hits, 1)}
