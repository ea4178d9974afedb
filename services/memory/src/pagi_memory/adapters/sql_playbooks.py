"""Playbooks (Mind-KB) in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pagi_memory.adapters.sql_script import Repeated, Script, SqlDatabase, Statement
from pagi_memory.adapters.sql_turn_rows import microseconds, time_of
from pagi_memory.domain.playbook import (
    Known,
    MindStatistics,
    Outcome,
    Playbook,
    PlaybookState,
    PlaybookStep,
)

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

_COLUMNS = (
    "id, persona, prompt, steps, tool_versions, cost_usd, duration_ms, created_at_us, updated_at_us, "
    "wins, losses, state, reason, notes, last_used_at_us"
)
# The names that are put into the statements are constants of this module, hence the marks.
_SELECT = f"SELECT {_COLUMNS} FROM playbooks WHERE tenant = ?"  # noqa: S608
_OF_PERSONA = f"SELECT {_COLUMNS}, model, vector FROM playbooks WHERE tenant = ? AND persona = ? ORDER BY id"  # noqa: S608
_COUNTED = """
INSERT INTO playbook_runs (playbook_id, run_id, outcome) VALUES (?, ?, ?)
ON CONFLICT (playbook_id, run_id) DO NOTHING RETURNING run_id
"""
_INSERT = """
INSERT INTO playbooks (
    id, persona, prompt, steps, tool_versions, cost_usd, duration_ms, created_at_us, updated_at_us,
    wins, losses, state, reason, notes, last_used_at_us, model, vector, tenant
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING RETURNING id
"""
# Wins under other versions of the tools, or while it was set aside, say nothing of how it does now.
_LEARN = """
UPDATE playbooks SET prompt = ?, steps = ?, tool_versions = ?, cost_usd = ?, duration_ms = ?, updated_at_us = ?,
    last_used_at_us = ?, model = ?, vector = ?,
    wins = CASE WHEN state = 'active' THEN wins + 1 ELSE 1 END,
    losses = CASE WHEN state = 'active' THEN losses ELSE 0 END,
    state = 'active', reason = ''
WHERE tenant = ? AND id = ?
"""
_COUNT = {
    Outcome.WIN: "UPDATE playbooks SET wins = wins + 1, last_used_at_us = ? WHERE tenant = ? AND id = ?",
    Outcome.LOSS: "UPDATE playbooks SET losses = losses + 1, last_used_at_us = ? WHERE tenant = ? AND id = ?",
}
_SET_ASIDE = "UPDATE playbooks SET state = ?, reason = ?, updated_at_us = ? WHERE tenant = ? AND id = ?"
_CHANGE = """
UPDATE playbooks SET prompt = ?, tool_versions = ?, updated_at_us = ?, wins = ?, losses = ?, state = ?, reason = ?,
    notes = ?, model = ?, vector = ?
WHERE tenant = ? AND id = ? RETURNING id
"""
_REMOVE = "DELETE FROM playbooks WHERE tenant = ? AND id = ? RETURNING id"
_LEAST = """
SELECT id FROM playbooks WHERE tenant = ? AND persona = ?
ORDER BY CASE state WHEN 'active' THEN 0 ELSE 1 END, losses - wins, updated_at_us DESC, id
"""
_STATISTICS = """
SELECT count(*), coalesce(sum(CASE state WHEN 'active' THEN 0 ELSE 1 END), 0),
    coalesce(sum(wins), 0), coalesce(sum(losses), 0)
FROM playbooks WHERE tenant = ?
"""


class SqlPlaybookStore:
    """`PlaybookStore` on any `SqlDatabase`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def record(self, tenant: str, run_id: str, known: Known) -> bool:
        """See `PlaybookStore.record`."""
        new, vector = known.playbook, _bytes(known.vector)
        at = microseconds(new.updated_at)
        content = (_steps(new.steps), _json(new.tool_versions), new.cost_usd, new.duration_ms)
        fresh = (new.wins, new.losses, new.state.value, new.reason, new.notes, at, known.model, vector, tenant)

        def script() -> Script[bool]:
            if not (yield Statement(_COUNTED, (new.id, run_id, Outcome.WIN.value))):
                return False
            row = (new.id, new.persona, new.prompt, *content, microseconds(new.created_at), at, *fresh)
            if (yield Statement(_INSERT, row)):
                return True
            yield Statement(_LEARN, (new.prompt, *content, at, at, known.model, vector, tenant, new.id))
            return False

        return await self._database.write(script)

    async def count(
        self, tenant: str, playbook_id: str, run_id: str, outcome: Outcome, at: datetime
    ) -> Playbook | None:
        """See `PlaybookStore.count`."""

        def script() -> Script[Playbook | None]:
            # Looked for first: a run is not counted for a playbook that is gone or another tenant's.
            if (yield from _one(tenant, playbook_id)) is None:
                return None
            if not (yield Statement(_COUNTED, (playbook_id, run_id, outcome.value))):
                return None
            yield Statement(_COUNT[outcome], (microseconds(at), tenant, playbook_id))
            return (yield from _one(tenant, playbook_id))

        return await self._database.write(script)

    async def set_aside(self, tenant: str, playbook_id: str, reason: str, at: datetime) -> None:
        """See `PlaybookStore.set_aside`."""
        row = (PlaybookState.SET_ASIDE.value, reason, microseconds(at), tenant, playbook_id)

        def script() -> Script[None]:
            yield Statement(_SET_ASIDE, row)

        await self._database.write(script)

    async def of_persona(self, tenant: str, persona: str) -> list[Known]:
        """See `PlaybookStore.of_persona`."""

        def script() -> Script[list[Known]]:
            rows = yield Statement(_OF_PERSONA, (tenant, persona))
            return [Known(_playbook(row), _vector(row[-1]), row[-2]) for row in rows]

        return await self._database.read(script)

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

    async def change(self, tenant: str, known: Known) -> bool:
        """See `PlaybookStore.change`."""
        new = known.playbook
        told = (new.prompt, _json(new.tool_versions), microseconds(new.updated_at), new.wins, new.losses)
        row = (*told, new.state.value, new.reason, new.notes, known.model, _bytes(known.vector), tenant, new.id)

        def script() -> Script[bool]:
            return bool((yield Statement(_CHANGE, row)))

        return await self._database.write(script)

    async def remove(self, tenant: str, playbook_id: str) -> bool:
        """See `PlaybookStore.remove`. Its runs stay known: a late repeat of one does not bring it back."""

        def script() -> Script[bool]:
            return bool((yield Statement(_REMOVE, (tenant, playbook_id))))

        return await self._database.write(script)

    async def remove_least(self, tenant: str, persona: str, most: int) -> None:
        """See `PlaybookStore.remove_least`."""

        def script() -> Script[None]:
            rows = yield Statement(_LEAST, (tenant, persona))
            yield Repeated("DELETE FROM playbooks WHERE id = ?", [(playbook_id,) for (playbook_id,) in rows[most:]])

        await self._database.write(script)

    async def statistics(self, tenant: str) -> MindStatistics:
        """See `PlaybookStore.statistics`."""

        def script() -> Script[MindStatistics]:
            [counts] = yield Statement(_STATISTICS, (tenant,))
            return MindStatistics(*map(int, counts))

        return await self._database.read(script)


def _one(tenant: str, playbook_id: str) -> Script[Playbook | None]:
    rows = yield Statement(f"{_SELECT} AND id = ?", (tenant, playbook_id))
    return _playbook(rows[0]) if rows else None


def _playbook(row: Sequence[Any]) -> Playbook:
    made_id, persona, prompt, steps, versions, cost_usd, duration_ms, created, updated, *rest = row
    wins, losses, state, reason, notes, last_used = rest[:6]
    return Playbook(
        made_id,
        persona,
        prompt,
        tuple(PlaybookStep(*step) for step in json.loads(steps)),
        json.loads(versions),
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


def _steps(steps: Sequence[PlaybookStep]) -> str:
    return _json([(step.tool, step.arguments_json, step.outcome) for step in steps])


def _json(value: Any) -> str:
    return json.dumps(value if isinstance(value, list) else dict(value), ensure_ascii=False)


def _bytes(vector: Vector) -> bytes:
    return vector.astype("<f4").tobytes()


def _vector(blob: bytes) -> Vector:
    import numpy as np  # the embedder needs it anyway; not at import, to keep that quick

    vector: Vector = np.frombuffer(blob, dtype="<f4")
    return vector
