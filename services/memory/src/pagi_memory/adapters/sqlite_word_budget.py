"""Keeps a search by words quick however much is stored: it leaves out the words that nearly every passage holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from pagi_memory.domain.model import KnowledgeBase, Shelf

# Weighing one occurrence takes about a microsecond. A search of some thousand passages needs fewer.
POSTINGS = 4_500

_COUNTS = "SELECT persona, knowledge_base, count(*) FROM passages GROUP BY persona, knowledge_base"
_FREQUENCY = "SELECT count(*) FROM passage_words WHERE passage_words MATCH ?"


# Of so many words it is remembered how often they occur; requests hold numbers and names without end. A longer one is
# no word.
MOST_REMEMBERED = 20_000
_LONGEST_REMEMBERED = 64


@dataclass(slots=True)
class _Counted:
    """What was counted in one state of the store; who counts over a change keeps it where nobody looks any more."""

    shelves: dict[Shelf, int] | None = None
    frequencies: dict[str, int] = field(default_factory=dict)


class WordBudget:
    """Chooses the rarest words of a query: a word that most passages hold tells little (its BM25 weight is near 0).

    What it counts it remembers until anything changes. Used by several reading threads: the worst that they do to each
    other is to count twice.
    """

    def __init__(self, postings: int = POSTINGS) -> None:
        self._postings = postings
        self._counted = _Counted()

    def forget(self) -> None:
        """What is stored has changed."""
        self._counted = _Counted()

    def share(self, connection: sqlite3.Connection, shelves: Sequence[Shelf]) -> float:
        """How much of all passages stands on the shelves, 0 to 1."""
        sizes = self._sizes(connection)
        return sum(sizes.get(shelf, 0) for shelf in shelves) / (sum(sizes.values()) or 1)

    def kept(self, connection: sqlite3.Connection, words: Sequence[str], share: float = 1.0) -> list[str]:
        """The rarest words whose occurrences fit the budget, at least one.

        Args:
            connection: Of the thread.
            words: One or more.
            share: How much of the occurrences is weighed, 0 to 1.
        """
        if share * sum(self._sizes(connection).values()) * len(words) <= self._postings:
            return list(words)
        rarest_first = sorted(words, key=lambda word: self._frequency(connection, word))
        kept, used = rarest_first[:1], share * self._frequency(connection, rarest_first[0])
        for word in rarest_first[1:]:
            used += share * self._frequency(connection, word)
            if used > self._postings:
                break
            kept.append(word)
        return kept

    def _sizes(self, connection: sqlite3.Connection) -> dict[Shelf, int]:
        counted = self._counted
        if counted.shelves is None:
            rows = connection.execute(_COUNTS)
            counted.shelves = {Shelf(persona, KnowledgeBase(base)): count for persona, base, count in rows}
        return counted.shelves

    def _frequency(self, connection: sqlite3.Connection, word: str) -> int:
        frequencies = self._counted.frequencies
        found = frequencies.get(word)
        if found is None:
            # Quoted, so that it is a term whatever it holds; FTS5 ends its expression at a NUL.
            term = '"' + word.replace('"', '""').replace("\0", " ") + '"'
            [found] = connection.execute(_FREQUENCY, (f"{{title body}} : {term}",)).fetchone()
            if len(frequencies) >= MOST_REMEMBERED:
                frequencies.clear()
            if len(word) <= _LONGEST_REMEMBERED:
                frequencies[word] = found
        return int(found)
