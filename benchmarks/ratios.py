"""How a ratio is taken: the median over the rounds of what was measured within one round.

Whatever else the machine does meets both sides of a pair, and what meets one pair alone is not the median.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field


def ratio_of(ours: Iterable[float], base: Iterable[float]) -> float:
    """The median of the ratios; the figures of one index were taken after each other."""
    return statistics.median(one / other for one, other in zip(ours, base, strict=True))


def difference_of(ours: Iterable[float], base: Iterable[float]) -> float:
    """The median of the differences, taken alike."""
    return statistics.median(one - other for one, other in zip(ours, base, strict=True))


@dataclass
class Pairs:
    """What one figure was measured by and what it was itself, a pair for each round."""

    base: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the two."""
        return ratio_of(self.ours, self.base)

    @property
    def more(self) -> float:
        """How much more ours is."""
        return difference_of(self.ours, self.base)

    @property
    def medians(self) -> tuple[float, float]:
        """Of the base and of ours."""
        return statistics.median(self.base), statistics.median(self.ours)
