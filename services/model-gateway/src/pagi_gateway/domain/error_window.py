"""How many answers and failures there were in the last while."""

from __future__ import annotations

_SLOTS = 10


class ErrorWindow:
    """Counts over a sliding window, in ten steps; seconds are on a clock that only goes up."""

    __slots__ = ("_failed", "_slot_s", "_total", "_turn")

    def __init__(self, window_s: float) -> None:
        self._slot_s = window_s / _SLOTS
        self._total = [0] * _SLOTS
        self._failed = [0] * _SLOTS
        self._turn = 0

    def add(self, now: float, *, failed: bool) -> None:
        """Counts one."""
        slot = self._slot(now)
        self._total[slot] += 1
        self._failed[slot] += failed

    def counts(self, now: float) -> tuple[int, int]:
        """How many there were, and how many of them failed."""
        self._slot(now)
        return sum(self._total), sum(self._failed)

    def clear(self) -> None:
        """Forgets all."""
        self._total = [0] * _SLOTS
        self._failed = [0] * _SLOTS

    def _slot(self, now: float) -> int:
        """The slot of this moment; those that have become too old are emptied."""
        turn = int(now / self._slot_s)
        for old in range(max(self._turn + 1, turn - _SLOTS + 1), turn + 1):
            self._total[old % _SLOTS] = self._failed[old % _SLOTS] = 0
        self._turn = max(turn, self._turn)
        return turn % _SLOTS
