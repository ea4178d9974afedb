"""A bounded memory for ids."""

from __future__ import annotations

from collections import OrderedDict

CAPACITY = 10_000


class RecentIds:
    """The last ids that were added; older ones are forgotten."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, each: str) -> None:
        """Remembers the id; the oldest goes where there is no room."""
        self._ids[each] = None
        if len(self._ids) > self._capacity:
            self._ids.popitem(last=False)

    def __contains__(self, each: str) -> bool:
        return each in self._ids
