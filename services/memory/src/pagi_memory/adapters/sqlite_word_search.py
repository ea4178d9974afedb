"""Finds passages by their words, with FTS5."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence

from pagi_memory.adapters import sqlite_passage_schema as sql
from pagi_memory.adapters.sqlite_word_budget import WordBudget
from pagi_memory.domain.model import Hit, Narrowing, Shelf

# Where the shelves hold at least this much of all passages, all are ranked and those of other shelves left out
# afterwards: with 100,000 passages that takes half of the time in which FTS5 intersects the lists of words and shelves.
_LARGE_SHARE = 0.25
# More are ranked than the share asks for, because others may stand before them by chance.
_RESERVE = 1.5


class WordSearch:
    """Ranks by BM25. `title_weight`: of a word in the headings against one in the text."""

    def __init__(self, *, title_weight: float = 1.0, budget: WordBudget | None = None) -> None:
        self._best = sql.WORDS.format(title_weight=float(title_weight))
        self._title_weight = float(title_weight)
        self._budget = budget or WordBudget()

    def forget(self) -> None:
        """What is stored has changed."""
        self._budget.forget()

    def best(
        self, connection: sqlite3.Connection, words: Sequence[str], shelves: Sequence[Shelf], limit: int
    ) -> list[Hit]:
        """The passages on the shelves that hold any of the words, best first."""
        share = self._budget.share(connection, shelves)
        if share >= _LARGE_SHARE:
            expression = sql.match_expression(self._budget.kept(connection, words), None)
            ranked = math.ceil(limit / share * _RESERVE)
            rows = connection.execute(self._best, (expression, ranked)).fetchall()
            # The rows say where they stand: what is counted above may be a moment old.
            wanted = {sql.shelf_word(shelf) for shelf in shelves}
            hits = [Hit(passage_id, score) for passage_id, score, shelf in rows if shelf in wanted]
            if len(hits) >= limit or len(rows) < ranked:
                return hits[:limit]
        expression = sql.match_expression(self._budget.kept(connection, words, share), shelves)
        return [Hit(*row[:2]) for row in connection.execute(self._best, (expression, limit))]

    def narrowed(
        self,
        connection: sqlite3.Connection,
        words: Sequence[str],
        shelves: Sequence[Shelf],
        limit: int,
        only: Narrowing,
    ) -> list[Hit]:
        """The same among some documents."""
        condition, values = sql.narrowing_condition(only)
        statement = sql.WORDS_NARROWED.format(narrowing=condition, title_weight=self._title_weight)
        kept = self._budget.kept(connection, words, self._budget.share(connection, shelves))
        parameters = (sql.match_expression(kept, shelves), *values, limit)
        return [Hit(*row) for row in connection.execute(statement, parameters)]
