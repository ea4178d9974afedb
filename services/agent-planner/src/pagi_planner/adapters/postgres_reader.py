"""Reads events and runs of the journal in PostgreSQL, and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pagi_planner.adapters import postgres_tables as sql
from pagi_planner.adapters.postgres_connection import PostgresServer
from pagi_planner.domain.model import RunStatus, RunSummary
from pagi_planner.domain.state.events import Event, EventType

_decode = msgspec.json.Decoder().decode


class PostgresReader:
    """What a planner reads with, and the scripts that show a journal to people.

    Args:
        server: Started and stopped by who made it.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    async def events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The events of a run in order."""
        if not can_be_there(run_id):
            return []
        return [event_of(row) for row in await self._server.fetch(sql.EVENTS, run_id, after, limit)]

    async def found(self, wanted: str) -> Sequence[Event]:
        """The events of every run with this trace, run or session id, in the order of writing."""
        return [event_of(row) for row in await self._server.fetch(sql.FOUND, wanted)]

    async def runs(
        self, *, limit: int, before: str = "", session_id: str = "", status: RunStatus | None = None
    ) -> Sequence[RunSummary]:
        """The newest runs, newest first."""
        values: list[Any] = []
        wanted: list[str] = []
        for condition, value in (
            ("session_id = ${}", session_id),
            ("status = ${}", status),
            ("id < (SELECT id FROM runs WHERE run_id = ${})", before),
        ):
            if value:
                values.append(str(value))
                wanted.append(condition.format(len(values)))
        if not all(map(can_be_there, values)):
            return []
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        rows = await self._server.fetch(sql.RUNS.format(where=where, limit=f"${len(values) + 1}"), *values, limit)
        return [
            RunSummary(
                run_id=row["run_id"],
                session_id=row["session_id"],
                trace_id=row["trace_id"],
                status=RunStatus(row["status"]),
                prompt=row["prompt"],
                started_at=row["started_at"],
                ended_at=row["ended_at"],
                parent_run_id=row["parent_run_id"],
            )
            for row in rows
        ]


def can_be_there(text: str) -> bool:
    """Whether a column of text can hold it. To ask for what has NUL in it is an error of PostgreSQL, and no answer."""
    return "\0" not in text


def event_of(row: Sequence[Any]) -> Event:
    """The event in a row of `COLUMNS`."""
    _, trace_id, session_id, timestamp, event_type, data, run_id, seq = row
    return Event(run_id, seq, EventType(event_type), timestamp, trace_id, session_id, _decode(data))
