"""What was read last from a database that this process alone changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class KeptRows(Generic[K, V]):
    """Rows by their keys, until one of them changes; never a mixture of two states of the database.

    Between the begin and the end of a change nothing is taken from here and nothing is kept: who reads then asks the
    database for all that is wanted at once. All of it runs on the event loop.

    Args:
        most: So many are kept; those that were read first give way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[K, V] = {}
        self._changing = self._changes = 0

    def change(self, concerns: Callable[[V], bool] = lambda _: True) -> Callable[[], None]:
        """A change begins.

        Args:
            concerns: Whether a row may be another one afterwards; asked when the change has ended.

        Returns:
            What is to be called once, when the change was committed or given up.
        """
        self._changing += 1
        self._changes += 1

        def ended() -> None:
            self._changing -= 1
            self._changes += 1
            self._kept = {key: row for key, row in self._kept.items() if not concerns(row)}

        return ended

    async def of(self, keys: Iterable[K], read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> dict[K, V]:
        """The rows of these keys; those that do not exist are left out.

        Args:
            keys: Which.
            read: Asks the database, in one statement.
        """
        wanted = list(dict.fromkeys(keys))
        before = self._changes
        found = {} if self._changing else {key: self._kept[key] for key in wanted if key in self._kept}
        if len(found) == len(wanted):
            return found
        rows = await read([key for key in wanted if key not in found] if found else wanted)
        if self._changes == before and not self._changing:
            self._keep(rows)
        elif found:
            # What was kept is of another state than what was read.
            return dict(await read(wanted))
        return {**found, **rows}

    def _keep(self, rows: Mapping[K, V]) -> None:
        self._kept.update(rows)
        for key in list(self._kept)[: max(len(self._kept) - self._most, 0)]:
            del self._kept[key]
