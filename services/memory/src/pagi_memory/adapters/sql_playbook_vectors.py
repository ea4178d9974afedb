"""The vectors of playbooks (Mind-KB) in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pagi_memory.adapters import sql_heart_schema as schema
from pagi_memory.adapters.sql_script import Repeated, Script, SqlDatabase, Statement, marks
from pagi_memory.adapters.vector_rows import best_rows, from_blob, stacked, to_blob
from pagi_memory.domain.clock import microseconds, utc_now
from pagi_memory.domain.model import Hit, KnowledgeBase, Shelf, owner_of

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

_OF_SHELF = "FROM playbook_vectors WHERE owner = ? AND persona = ? AND model = ?"
_COUNTS = "SELECT owner, persona, count(*) FROM playbook_vectors WHERE model = ? GROUP BY owner, persona"
# Whatever is added or taken away changes one of the two: a number is never given again.
_STAMP = f"SELECT count(*), coalesce(sum(number), 0) {_OF_SHELF}"
_NUMBERS = f"SELECT number {_OF_SHELF}"
_VECTORS = f"SELECT number, vector {_OF_SHELF} ORDER BY number"
_SOME = "SELECT number, vector FROM playbook_vectors WHERE number IN ({marks})"
_MISSING = """
SELECT id, tenant, updated_at_us, prompt FROM playbooks WHERE NOT EXISTS (
    SELECT 1 FROM playbook_vectors WHERE playbook_vectors.playbook_id = playbooks.id AND playbook_vectors.model = ?
) ORDER BY id LIMIT ?
"""
_ADD = """
INSERT INTO playbook_vectors (playbook_id, owner, persona, model, vector)
SELECT id, ?, persona, ?, ? FROM playbooks WHERE id = ? AND updated_at_us = ?
ON CONFLICT (playbook_id, model) DO NOTHING
"""
_CARRY_OVER = """
INSERT INTO playbook_vectors (playbook_id, owner, persona, model, vector) VALUES (?, ?, ?, ?, ?)
"""


class SqlPlaybookVectors:
    """`PlaybookVectors` and `Ledger` on any `SqlDatabase`.

    Args:
        database: Where the playbooks are.
        model: Says which model serves now.
    """

    def __init__(self, database: SqlDatabase, model: Callable[[], str]) -> None:
        self._database = database
        self._model = model

    @property
    def is_shared(self) -> bool:
        """See `PlaybookVectors.is_shared`."""
        return self._database.dialect == "postgresql"

    async def counts(self) -> dict[Shelf, int]:
        """See `PlaybookVectors.counts`."""
        rows = await self._rows(_COUNTS, (self._model(),))
        return {Shelf(persona, KnowledgeBase.MIND, owner): count for owner, persona, count in rows}

    async def count(self, shelf: Shelf) -> int:
        """See `PlaybookVectors.count`."""
        return (await self.stamp(shelf))[0]

    async def stamp(self, shelf: Shelf) -> tuple[int, int]:
        """See `PlaybookVectors.stamp`."""
        [[count, total]] = await self._rows(_STAMP, self._place(shelf))
        return int(count), int(total)

    async def entries(self, shelf: Shelf) -> set[str]:
        """See `PlaybookVectors.entries`."""
        return {str(number) for (number,) in await self._rows(_NUMBERS, self._place(shelf))}

    async def some(self, entries: Sequence[str]) -> dict[str, Vector]:
        """See `PlaybookVectors.some`."""
        if not entries:
            return {}
        rows = await self._rows(_SOME.format(marks=marks(entries)), [int(entry) for entry in entries])
        return {str(number): from_blob(blob) for number, blob in rows}

    async def vectors(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        """Their names, and one of them in each row."""
        rows = await self._rows(_VECTORS, self._place(shelf))
        return stacked([(str(number), blob) for number, blob in rows])

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """The nearest by comparing with every one."""
        hits: list[Hit] = []
        for shelf in shelves:
            hits += best_rows(*await self.vectors(shelf), vector, limit)
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def without_vector(self, model: str, limit: int) -> dict[str, str]:
        """See `PlaybookVectors.without_vector`."""
        rows = await self._rows(_MISSING, (model, limit))
        # The time tells `add_vectors` whether the prompt is still the same.
        return {f"{made_id}:{changed}:{owner_of(tenant)}": prompt for made_id, tenant, changed, prompt in rows}

    async def add_vectors(self, model: str, vectors: Mapping[str, Vector]) -> None:
        """See `PlaybookVectors.add_vectors`."""
        rows = []
        for key, vector in vectors.items():
            made_id, changed, owner = key.split(":")
            rows.append((owner, model, to_blob(vector), made_id, int(changed)))

        def script() -> Script[None]:
            yield Repeated(_ADD, rows)

        await self._database.write(script)

    def _place(self, shelf: Shelf) -> tuple[str, str, str]:
        return shelf.owner, shelf.persona, self._model()

    async def _rows(self, statement: str, parameters: Sequence[Any]) -> list[Sequence[Any]]:
        def script() -> Script[list[Sequence[Any]]]:
            return (yield Statement(statement, parameters))

        return await self._database.read(script)


def carried_over(dialect: str) -> Script[None]:
    """Brings the playbooks of older versions up to this one; does nothing where there are none."""
    if not (yield Statement(schema.HAS_RUN_TIMES[dialect])):
        yield Statement(schema.ADD_RUN_TIMES)
        yield Statement(schema.SET_RUN_TIMES, (microseconds(utc_now()),))
    yield Statement(schema.RUNS_BY_TIME)
    if not (yield Statement(schema.HAS_OLD_VECTORS[dialect])):
        return
    rows = yield Statement(schema.OLD_VECTORS)
    moved = [
        (made_id, owner_of(tenant), persona, model, bytes(vector)) for made_id, tenant, persona, model, vector in rows
    ]
    yield Repeated(_CARRY_OVER, moved)
    for statement in schema.DROP_OLD_VECTORS:
        yield Statement(statement)
