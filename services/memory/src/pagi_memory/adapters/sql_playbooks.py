"""Playbooks (Mind-KB) in SQL."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from pagi_memory.adapters.kept_rows import KeptRows
from pagi_memory.adapters.sql_script import Repeated, Script, SqlDatabase, Statement, marks
from pagi_memory.adapters.sql_turn_rows import time_of
from pagi_memory.adapters.vector_rows import to_blob
from pagi_memory.domain.clock import microseconds
from pagi_memory.domain.model import owner_of
from pagi_memory.domain.playbook import (
    Entry,
    Kept,
    Known,
    MindStatistics,
    Outcome,
    Playbook,
    PlaybookState,
    PlaybookStep,
    Standing,
)

R = TypeVar("R")

_COLUMNS = (
    "id, persona, prompt, steps, tool_versions, cost_usd, duration_ms, created_at_us, updated_at_us, "
    "wins, losses, state, reason, notes, last_used_at_us"
)
# The names that are put into the statements are constants of this module, hence the marks.
_SELECT = f"SELECT {_COLUMNS} FROM playbooks WHERE tenant = ?"  # noqa: S608
_OF_ENTRIES = f"""
SELECT number, {_COLUMNS} FROM
    (SELECT number, playbook_id FROM playbook_vectors WHERE number IN ({{marks}})) AS found
    JOIN playbooks ON playbooks.id = found.playbook_id WHERE tenant = ?
"""  # noqa: S608
# The tenant as no index knows it: by the ids, and not by all that the tenant has.
_KNOWN = "SELECT id FROM playbooks WHERE tenant || '' = ? AND id IN ({marks})"
_TAUGHT = """
INSERT INTO playbook_runs (playbook_id, run_id, outcome, noted_at_us) VALUES (?, ?, ?, ?)
ON CONFLICT (playbook_id, run_id) DO NOTHING RETURNING run_id
"""
# Of its own playbooks only: a run is not counted for one that is gone or another tenant's.
_COUNTED = """
INSERT INTO playbook_runs (playbook_id, run_id, outcome, noted_at_us)
SELECT id, ?, ?, ? FROM playbooks WHERE tenant = ? AND id = ?
ON CONFLICT (playbook_id, run_id) DO NOTHING RETURNING run_id
"""
_PROMPT = "SELECT prompt FROM playbooks WHERE tenant = ? AND id = ?"
_INSERT = """
INSERT INTO playbooks (
    id, persona, prompt, steps, tool_versions, cost_usd, duration_ms, created_at_us, updated_at_us,
    wins, losses, state, reason, notes, last_used_at_us, tenant
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING RETURNING id
"""
# Wins under other versions of the tools, or while it was set aside, say nothing of how it does now.
_LEARN = """
UPDATE playbooks SET prompt = ?, steps = ?, tool_versions = ?, cost_usd = ?, duration_ms = ?, updated_at_us = ?,
    last_used_at_us = ?,
    wins = CASE WHEN state = 'active' THEN wins + 1 ELSE 1 END,
    losses = CASE WHEN state = 'active' THEN losses ELSE 0 END,
    state = 'active', reason = ''
WHERE tenant = ? AND id = ?
"""
_COUNT = {
    outcome: f"""
        UPDATE playbooks SET {column} = {column} + 1, last_used_at_us = ? WHERE tenant = ? AND id = ?
        RETURNING id, wins, losses, state
    """  # noqa: S608
    for outcome, column in ((Outcome.WIN, "wins"), (Outcome.LOSS, "losses"))
}
_SET_ASIDE = "UPDATE playbooks SET state = ?, reason = ?, updated_at_us = ? WHERE tenant = ? AND id = ?"
_CHANGE = """
UPDATE playbooks SET prompt = ?, tool_versions = ?, updated_at_us = ?, wins = ?, losses = ?, state = ?, reason = ?,
    notes = ?
WHERE tenant = ? AND id = ? RETURNING id
"""
_REMOVE = "DELETE FROM playbooks WHERE tenant = ? AND id = ? RETURNING persona"
_NEW_VECTOR = """
INSERT INTO playbook_vectors (playbook_id, owner, persona, model, vector) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (playbook_id, model) DO NOTHING RETURNING number
"""
_DROP_VECTORS = "DELETE FROM playbook_vectors WHERE playbook_id = ?"
_SIZE = "SELECT count(*) FROM playbooks WHERE tenant = ? AND persona = ?"
_LEAST = """
SELECT id FROM playbooks WHERE tenant = ? AND persona = ?
ORDER BY CASE state WHEN 'active' THEN 1 ELSE 0 END, losses - wins DESC, updated_at_us, id DESC LIMIT ?
"""
_RUNS = "SELECT count(*) FROM playbook_runs"
_SOME_OLD_RUNS = "SELECT count(*) FROM (SELECT 1 FROM playbook_runs WHERE noted_at_us < ? LIMIT ?) AS old"
# So many and not those before a time: what an older version kept has all the same. Which of one time does not matter;
# to put them in order takes eight times as long, 0.25 s with a million.
_FORGET_RUNS = """
DELETE FROM playbook_runs WHERE (playbook_id, run_id) IN (
    SELECT playbook_id, run_id FROM playbook_runs ORDER BY noted_at_us LIMIT ?
) RETURNING run_id
"""
_STATISTICS = """
SELECT count(*), coalesce(sum(CASE state WHEN 'active' THEN 0 ELSE 1 END), 0),
    coalesce(sum(wins), 0), coalesce(sum(losses), 0)
FROM playbooks WHERE tenant = ?
"""


# So many are forgotten in one transaction: others wait for it.
_FORGOTTEN_AT_ONCE = 5_000
# Each takes about 3 KB.
_MOST_KEPT = 2_000


class SqlPlaybookStore:
    """`PlaybookStore` on any `SqlDatabase`.

    Args:
        database: Where they are.
        forgotten_at_once: So many runs at most are forgotten in one transaction.
    """

    def __init__(self, database: SqlDatabase, *, forgotten_at_once: int = _FORGOTTEN_AT_ONCE) -> None:
        self._database = database
        self._forgotten_at_once = forgotten_at_once
        # Of a database that other processes change, nothing is kept.
        self._kept: KeptRows[tuple[str, str], Playbook] = KeptRows(_MOST_KEPT if database.dialect == "sqlite" else 0)

    async def keep(self, tenant: str, entries: Sequence[Entry], *, most: int) -> list[Kept]:
        """See `PlaybookStore.keep`."""
        touched = {each for entry in entries for each in entry.tried}
        touched |= {entry.learned.playbook.id for entry in entries if entry.learned}

        def script() -> Script[list[Kept]]:
            kept = []
            grown = set()
            for entry in entries:
                created = is_new_task = False
                if entry.learned:
                    created, is_new_task = yield from _learn(tenant, entry.run_id, entry.learned)
                    grown |= {entry.learned.playbook.persona} if created else set()
                standings = yield from _count(tenant, entry)
                kept.append(Kept(created, is_new_task, standings))
            for persona in sorted(grown):
                touched.update((yield from _remove_least(tenant, persona, most)))
            return kept

        return await self._write(script, touched)

    async def known(self, tenant: str, ids: Sequence[str]) -> set[str]:
        """See `PlaybookStore.known`."""

        def script() -> Script[set[str]]:
            rows = yield Statement(_KNOWN.format(marks=marks(ids)), (tenant, *ids))
            return {made_id for (made_id,) in rows}

        return await self._database.read(script) if ids else set()

    async def of_entries(self, tenant: str, entries: Sequence[str]) -> dict[str, Playbook]:
        """See `PlaybookStore.of_entries`."""

        async def read(missing: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Playbook]:
            def script() -> Script[dict[tuple[str, str], Playbook]]:
                statement = _OF_ENTRIES.format(marks=marks(missing))
                rows = yield Statement(statement, (*(int(entry) for _, entry in missing), tenant))
                return {(tenant, str(row[0])): _playbook(row[1:]) for row in rows}

            return await self._database.read(script)

        found = await self._kept.of([(tenant, entry) for entry in entries], read)
        return {entry: playbook for (_, entry), playbook in found.items()}

    async def set_aside(self, tenant: str, playbook_id: str, reason: str, at: datetime) -> None:
        """See `PlaybookStore.set_aside`."""
        row = (PlaybookState.SET_ASIDE.value, reason, microseconds(at), tenant, playbook_id)

        def script() -> Script[None]:
            yield Statement(_SET_ASIDE, row)

        await self._write(script, {playbook_id})

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
        statement = _SELECT
        bounds: list[str | int] = [tenant]
        for column, value in (("state", state.value if state else ""), ("persona", persona)):
            if value:
                statement += f" AND {column} = ?"
                bounds.append(value)
        if after:
            statement += " AND (updated_at_us, id) < (?, ?)"
            bounds += after
        statement += " ORDER BY updated_at_us DESC, id DESC LIMIT ?"

        def script() -> Script[list[Playbook]]:
            rows = yield Statement(statement, (*bounds, limit))
            return [_playbook(row) for row in rows]

        return await self._database.read(script)

    async def get(self, tenant: str, playbook_id: str) -> Playbook | None:
        """See `PlaybookStore.get`."""
        return await self._database.read(lambda: _one(tenant, playbook_id))

    async def change(self, tenant: str, playbook: Playbook, known: Known | None = None) -> bool:
        """See `PlaybookStore.change`."""
        new = playbook
        told = (new.prompt, _json(new.tool_versions), microseconds(new.updated_at), new.wins, new.losses)
        row = (*told, new.state.value, new.reason, new.notes, tenant, new.id)

        def script() -> Script[bool]:
            is_there = bool((yield Statement(_CHANGE, row)))
            if is_there and known:
                yield from _put_vector(tenant, known, is_other_prompt=True)
            return is_there

        return await self._write(script, {new.id})

    async def remove(self, tenant: str, playbook_id: str) -> str:
        """See `PlaybookStore.remove`. Its runs stay known: a late repeat of one does not bring it back."""

        def script() -> Script[str]:
            rows = yield Statement(_REMOVE, (tenant, playbook_id))
            if rows:
                yield Statement(_DROP_VECTORS, (playbook_id,))
            return rows[0][0] if rows else ""

        return await self._write(script, {playbook_id})

    async def statistics(self, tenant: str) -> MindStatistics:
        """See `PlaybookStore.statistics`."""

        def script() -> Script[MindStatistics]:
            [counts] = yield Statement(_STATISTICS, (tenant,))
            return MindStatistics(*map(int, counts))

        return await self._database.read(script)

    async def forget_runs(self, *, before: datetime, most: int) -> int:
        """See `PlaybookStore.forget_runs`."""

        def script() -> Script[int]:
            [[old]] = yield Statement(_SOME_OLD_RUNS, (microseconds(before), self._forgotten_at_once))
            [[all_]] = yield Statement(_RUNS)
            count = min(max(old, all_ - most), self._forgotten_at_once)
            return len((yield Statement(_FORGET_RUNS, (count,)))) if count else 0

        return await self._database.write(script)

    async def _write(self, script: Callable[[], Script[R]], touched: Set[str]) -> R:
        """Changes playbooks; `touched`: the ids of those that are others afterwards, known at the end."""
        return await self._database.write(script, after=self._kept.change(lambda playbook: playbook.id in touched))


def _one(tenant: str, playbook_id: str) -> Script[Playbook | None]:
    rows = yield Statement(f"{_SELECT} AND id = ?", (tenant, playbook_id))
    return _playbook(rows[0]) if rows else None


def _learn(tenant: str, run_id: str, known: Known) -> Script[tuple[bool, bool]]:
    """Whether the playbook is a new one, and whether there is a vector that there was not."""
    new = known.playbook
    at = microseconds(new.updated_at)
    if not (yield Statement(_TAUGHT, (new.id, run_id, Outcome.WIN.value, at))):
        return False, False
    content = (_steps(new.steps), _json(new.tool_versions), new.cost_usd, new.duration_ms)
    before = yield Statement(_PROMPT, (tenant, new.id))
    if before:
        yield Statement(_LEARN, (new.prompt, *content, at, at, tenant, new.id))
        return False, (yield from _put_vector(tenant, known, is_other_prompt=before[0][0] != new.prompt))
    fresh = (microseconds(new.created_at), at, new.wins, new.losses, new.state.value, new.reason, new.notes, at, tenant)
    created = bool((yield Statement(_INSERT, (new.id, new.persona, new.prompt, *content, *fresh))))
    return created, (yield from _put_vector(tenant, known, is_other_prompt=False))


def _put_vector(tenant: str, known: Known, *, is_other_prompt: bool) -> Script[bool]:
    """Whether there is a vector that there was not. Those of another prompt say nothing, whatever their model."""
    new = known.playbook
    if is_other_prompt:
        yield Statement(_DROP_VECTORS, (new.id,))
    row = (new.id, owner_of(tenant), new.persona, known.model, to_blob(known.vector))
    return bool((yield Statement(_NEW_VECTOR, row)))


def _count(tenant: str, entry: Entry) -> Script[list[Standing]]:
    standings = []
    for playbook_id in entry.tried:
        at = microseconds(entry.at)
        if not (yield Statement(_COUNTED, (entry.run_id, entry.outcome.value, at, tenant, playbook_id))):
            continue
        rows = yield Statement(_COUNT[entry.outcome], (at, tenant, playbook_id))
        standings += [Standing(made_id, wins, losses, PlaybookState(state)) for made_id, wins, losses, state in rows]
    return standings


def _remove_least(tenant: str, persona: str, most: int) -> Script[list[str]]:
    [[size]] = yield Statement(_SIZE, (tenant, persona))
    if size <= most:
        return []
    rows = yield Statement(_LEAST, (tenant, persona, size - most))
    yield Repeated("DELETE FROM playbooks WHERE id = ?", rows)
    yield Repeated(_DROP_VECTORS, rows)
    return [made_id for (made_id,) in rows]


def _playbook(row: Sequence[Any]) -> Playbook:
    made_id, persona, prompt, steps, versions, cost_usd, duration_ms, created, updated, *rest = row
    wins, losses, state, reason, notes, last_used = rest[:6]
    return Playbook(
        made_id,
        persona,
        prompt,
        _steps_of(steps),
        _versions_of(versions),
        cost_usd,
        duration_ms,
        time_of(created),
        time_of(updated),
        wins,
        losses,
        PlaybookState(state),
        reason,
        notes,
        time_of(last_used),
    )


# The same text is read again whenever a playbook is counted: parsed once. Half of the time of reading one.
@functools.lru_cache(maxsize=1_024)
def _steps_of(text: str) -> tuple[PlaybookStep, ...]:
    return tuple(PlaybookStep(*step) for step in json.loads(text))


@functools.lru_cache(maxsize=1_024)
def _versions_of(text: str) -> Mapping[str, str]:
    return MappingProxyType(json.loads(text))


def _steps(steps: Sequence[PlaybookStep]) -> str:
    return _json([(step.tool, step.arguments_json, step.outcome) for step in steps])


def _json(value: Any) -> str:
    return json.dumps(value if isinstance(value, list) else dict(value), ensure_ascii=False)
