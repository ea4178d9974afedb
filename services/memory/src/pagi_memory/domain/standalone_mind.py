"""Playbooks that live as long as the process: for tests, and for a domain that runs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

from pagi_memory.domain.clock import microseconds
from pagi_memory.domain.model import Hit, KnowledgeBase, Shelf, owner_of
from pagi_memory.domain.playbook import (
    Entry,
    Kept,
    Known,
    MindStatistics,
    Outcome,
    Playbook,
    PlaybookState,
    Standing,
)

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector


class InMemoryPlaybooks:
    """`PlaybookStore` and `PlaybookVectors` in dicts.

    Args:
        model: Says which model serves now.
    """

    is_shared = False

    def __init__(self, model: Callable[[], str]) -> None:
        self._model = model
        self._playbooks: dict[tuple[str, str], Playbook] = {}
        self._told: dict[tuple[str, str], datetime] = {}
        # By tenant, playbook and model: the vector and its number.
        self._vectors: dict[tuple[str, str, str], tuple[int, Vector]] = {}
        self._numbers = count(1)

    async def keep(self, tenant: str, entries: Sequence[Entry], *, most: int) -> list[Kept]:
        """See `PlaybookStore.keep`."""
        kept = []
        for entry in entries:
            created = is_new_task = False
            if entry.learned:
                created, is_new_task = self._learn(tenant, entry.run_id, entry.learned)
            standings = [self._count(tenant, entry, playbook_id) for playbook_id in entry.tried]
            kept.append(Kept(created, is_new_task, [each for each in standings if each]))
        for persona in {entry.learned.playbook.persona for entry in entries if entry.learned}:
            self._remove_least(tenant, persona, most)
        return kept

    def _learn(self, tenant: str, run_id: str, known: Known) -> tuple[bool, bool]:
        new = known.playbook
        if (new.id, run_id) in self._told:
            return False, False
        self._told[new.id, run_id] = new.updated_at
        before = self._playbooks.get((tenant, new.id))
        after = replace(new, last_used_at=new.updated_at)
        if before:
            after = replace(after, created_at=before.created_at, notes=before.notes)
            if before.state is PlaybookState.ACTIVE:
                after = replace(after, wins=before.wins + 1, losses=before.losses)
        self._playbooks[tenant, new.id] = after
        is_other_prompt = before is not None and before.prompt != new.prompt
        return before is None, self._put_vector(tenant, known, is_other_prompt=is_other_prompt)

    def _put_vector(self, tenant: str, known: Known, *, is_other_prompt: bool) -> bool:
        if is_other_prompt:
            self._drop_vectors(tenant, known.playbook.id)
        key = (tenant, known.playbook.id, known.model)
        is_new = key not in self._vectors
        self._vectors.setdefault(key, (next(self._numbers), known.vector))
        return is_new

    def _drop_vectors(self, tenant: str, playbook_id: str) -> None:
        self._vectors = {key: value for key, value in self._vectors.items() if key[:2] != (tenant, playbook_id)}

    def _count(self, tenant: str, entry: Entry, playbook_id: str) -> Standing | None:
        old = self._playbooks.get((tenant, playbook_id))
        if old is None or (playbook_id, entry.run_id) in self._told:
            return None
        self._told[playbook_id, entry.run_id] = entry.at
        is_win = entry.outcome is Outcome.WIN
        after = replace(old, wins=old.wins + is_win, losses=old.losses + (not is_win), last_used_at=entry.at)
        self._playbooks[tenant, playbook_id] = after
        return Standing(after.id, after.wins, after.losses, after.state)

    def _remove_least(self, tenant: str, persona: str, most: int) -> None:
        found = [playbook for playbook in self._of(tenant) if playbook.persona == persona]
        found.sort(key=lambda p: p.updated_at, reverse=True)
        found.sort(key=lambda p: (p.state is not PlaybookState.ACTIVE, p.losses - p.wins))
        for playbook in found[most:]:
            del self._playbooks[tenant, playbook.id]
            self._drop_vectors(tenant, playbook.id)

    async def known(self, tenant: str, ids: Sequence[str]) -> set[str]:
        """See `PlaybookStore.known`."""
        return {playbook_id for playbook_id in ids if (tenant, playbook_id) in self._playbooks}

    async def of_entries(self, tenant: str, entries: Sequence[str]) -> dict[str, Playbook]:
        """See `PlaybookStore.of_entries`."""
        ids = {str(number): key[:2] for key, (number, _) in self._vectors.items() if key[0] == tenant}
        return {entry: self._playbooks[ids[entry]] for entry in entries if entry in ids}

    async def set_aside(self, tenant: str, playbook_id: str, reason: str, at: datetime) -> None:
        """See `PlaybookStore.set_aside`."""
        if old := self._playbooks.get((tenant, playbook_id)):
            after = replace(old, state=PlaybookState.SET_ASIDE, reason=reason, updated_at=at)
            self._playbooks[tenant, playbook_id] = after

    async def listed(
        self,
        tenant: str,
        *,
        limit: int,
        after: tuple[int, str] | None = None,
        state: PlaybookState | None = None,
        persona: str = "",
    ) -> list[Playbook]:
        """See `PlaybookStore.listed`."""
        wanted = [p for p in self._of(tenant) if state in (None, p.state) and persona in ("", p.persona)]
        placed = sorted(((microseconds(p.updated_at), p.id), p) for p in wanted)
        return [playbook for place, playbook in reversed(placed) if after is None or place < after][:limit]

    async def get(self, tenant: str, playbook_id: str) -> Playbook | None:
        """See `PlaybookStore.get`."""
        return self._playbooks.get((tenant, playbook_id))

    async def change(self, tenant: str, playbook: Playbook, known: Known | None = None) -> bool:
        """See `PlaybookStore.change`."""
        if (tenant, playbook.id) not in self._playbooks:
            return False
        self._playbooks[tenant, playbook.id] = playbook
        if known:
            self._put_vector(tenant, known, is_other_prompt=True)
        return True

    async def remove(self, tenant: str, playbook_id: str) -> str:
        """See `PlaybookStore.remove`."""
        old = self._playbooks.pop((tenant, playbook_id), None)
        self._drop_vectors(tenant, playbook_id)
        return old.persona if old else ""

    async def forget_runs(self, *, before: datetime, most: int) -> int:
        """See `PlaybookStore.forget_runs`."""
        too_many = len(self._told) - most
        oldest = sorted(self._told.items(), key=lambda told: told[1])
        gone = [run for place, (run, at) in enumerate(oldest) if at < before or place < too_many]
        for run in gone:
            del self._told[run]
        return len(gone)

    async def statistics(self, tenant: str) -> MindStatistics:
        """See `PlaybookStore.statistics`."""
        found = self._of(tenant)
        aside = sum(p.state is PlaybookState.SET_ASIDE for p in found)
        return MindStatistics(len(found), aside, sum(p.wins for p in found), sum(p.losses for p in found))

    async def counts(self) -> dict[Shelf, int]:
        """See `PlaybookVectors.counts`."""
        return dict(Counter(shelf for shelf, _, _ in self._serving()))

    async def count(self, shelf: Shelf) -> int:
        """See `PlaybookVectors.count`."""
        return (await self.counts()).get(shelf, 0)

    async def stamp(self, shelf: Shelf) -> tuple[int, int]:
        """See `PlaybookVectors.stamp`."""
        numbers = [number for other, number, _ in self._serving() if other == shelf]
        return len(numbers), sum(numbers)

    async def entries(self, shelf: Shelf) -> set[str]:
        """See `PlaybookVectors.entries`."""
        return {str(number) for other, number, _ in self._serving() if other == shelf}

    async def some(self, entries: Sequence[str]) -> dict[str, Vector]:
        """See `PlaybookVectors.some`."""
        return {str(number): vector for number, vector in self._vectors.values() if str(number) in entries}

    async def vectors(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        """Their names, and one of them in each row."""
        import numpy as np

        found = [(str(number), vector) for other, number, vector in self._serving() if other == shelf]
        return [name for name, _ in found], np.array([vector for _, vector in found], dtype=np.float32)

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """The nearest by comparing with every one."""
        hits = [Hit(str(n), float(vector @ other)) for shelf, n, other in self._serving() if shelf in shelves]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def without_vector(self, model: str, limit: int) -> dict[str, str]:
        """See `PlaybookVectors.without_vector`."""
        missing = [key for key in self._playbooks if (*key, model) not in self._vectors]
        return {"\0".join((*key, self._playbooks[key].prompt)): self._playbooks[key].prompt for key in missing[:limit]}

    async def add_vectors(self, model: str, vectors: Mapping[str, Vector]) -> None:
        """See `PlaybookVectors.add_vectors`."""
        for key, vector in vectors.items():
            tenant, playbook_id, prompt = key.split("\0")
            playbook = self._playbooks.get((tenant, playbook_id))
            if playbook and playbook.prompt == prompt:
                self._put_vector(tenant, Known(playbook, vector, model), is_other_prompt=False)

    def _serving(self) -> list[tuple[Shelf, int, Vector]]:
        return [
            (Shelf(self._playbooks[tenant, made_id].persona, KnowledgeBase.MIND, owner_of(tenant)), number, vector)
            for (tenant, made_id, model), (number, vector) in self._vectors.items()
            if model == self._model()
        ]

    def _of(self, tenant: str) -> list[Playbook]:
        return [
            playbook
            for (owner, _), playbook in sorted(self._playbooks.items(), key=lambda item: item[0])
            if owner == tenant
        ]
