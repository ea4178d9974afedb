"""Chooses among ranked passages: no near-duplicates, quotas, a budget of tokens, neighbours joined."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pagi_memory.domain.model import FusedHit, KnowledgeBase, Passage, Piece, ScoredPassage

# Two passages that share this much of their word triples say the same (Jaccard; Broder, "On the resemblance and
# containment of documents", 1997). Tables and forms that differ in one figure stay below.
NEAR_DUPLICATE = 0.85

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is given: passages, tokens of all of them together (0: any), passages of a knowledge base."""

    passages: int
    tokens: int = 0
    quotas: Mapping[KnowledgeBase, int] = field(default_factory=dict)


class Selection:
    """Is offered passages best first, and keeps those that add something and fit."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._kept: list[ScoredPassage] = []
        self._shingles: list[frozenset[int]] = []
        self._tokens = 0
        self._of_base: Counter[KnowledgeBase] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether no further passage can be kept."""
        return len(self._kept) >= self._bounds.passages

    def offer(self, passage: Passage, hit: FusedHit) -> None:
        """Keeps a passage, or not."""
        base = passage.shelf.knowledge_base
        if self.is_full or self._of_base[base] >= self._bounds.quotas.get(base, self._bounds.passages):
            return
        if self._bounds.tokens and self._tokens + passage.piece.tokens > self._bounds.tokens:
            return
        shingles = _shingles(passage.piece.text)
        if any(_says_the_same(shingles, other) for other in self._shingles):
            return
        self._kept.append(ScoredPassage(passage, hit))
        self._shingles.append(shingles)
        self._tokens += passage.piece.tokens
        self._of_base[base] += 1

    def chosen(self, *, merge: bool) -> list[ScoredPassage]:
        """What was kept, best first; with `merge`, pieces of one section that stand side by side are one."""
        if not merge:
            return self._kept
        groups: list[list[ScoredPassage]] = []
        for scored in sorted(self._kept, key=lambda kept: (kept.passage.source, kept.passage.piece.index)):
            if groups and _follows(groups[-1][-1].passage, scored.passage):
                groups[-1].append(scored)
            else:
                groups.append([scored])
        return sorted(map(_joined, groups), key=lambda scored: (-scored.score, scored.passage.id))


def _follows(first: Passage, second: Passage) -> bool:
    one, other = first.piece, second.piece
    return first.source == second.source and one.headings == other.headings and one.index + 1 == other.index


def _joined(group: list[ScoredPassage]) -> ScoredPassage:
    """One passage in the place of its parts: id and score of the best of them, position of the first."""
    best = max(group, key=lambda scored: scored.score)
    if len(group) == 1:
        return best
    first, *others = [scored.passage.piece for scored in group]
    text, end = first.text, first.offset + len(first.text)
    for piece in others:
        text += _gap(piece.offset - end) + piece.text
        end = piece.offset + len(piece.text)
    tokens = first.tokens + sum(piece.tokens for piece in others)
    piece = Piece(text, first.headings, first.offset, first.index, tokens)
    return ScoredPassage(replace(best.passage, piece=piece), best.hit, merged=len(group))


def _gap(characters: int) -> str:
    # The splitter leaves out the white space between two pieces: none inside of a word, one between sentences,
    # more between paragraphs.
    return "" if characters <= 0 else " " if characters == 1 else "\n\n"


# The same passages are found again and again; a thousand of them take about 5 MB.
@functools.lru_cache(maxsize=1_024)
def _shingles(text: str) -> frozenset[int]:
    words = _WORD.findall(text.casefold())
    size = min(3, len(words)) or 1
    return frozenset(hash(tuple(words[i : i + size])) for i in range(len(words) - size + 1))


def _says_the_same(one: frozenset[int], other: frozenset[int]) -> bool:
    least, most = sorted((len(one), len(other)))
    # The sizes alone tell it of most pairs: no more can be shared than the smaller one has.
    if least == 0 or least < NEAR_DUPLICATE * most:
        return False
    shared = len(one & other)
    return shared / (least + most - shared) >= NEAR_DUPLICATE
