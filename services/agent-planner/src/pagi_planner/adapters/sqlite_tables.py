"""The tables of the journal, and how rows become events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pagi_planner.domain.events import FINAL, Event, EventType
from pagi_planner.domain.model import RunStatus, RunSummary

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    trace_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    event_type TEXT NOT NULL,
    data TEXT NOT NULL,
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    UNIQUE (run_id, seq)
);
CREATE INDEX IF NOT EXISTS audit_log_trace ON audit_log (trace_id);
CREATE INDEX IF NOT EXISTS audit_log_start ON audit_log (id) WHERE event_type = 'PLAN_START';
CREATE UNIQUE INDEX IF NOT EXISTS audit_log_final ON audit_log (run_id)
    WHERE event_type IN ('PLAN_END', 'PLAN_ERROR', 'PLAN_CANCELLED');
CREATE TABLE IF NOT EXISTS journal_cursors (reader TEXT PRIMARY KEY, position INTEGER NOT NULL);
"""
INSERT = (
    "INSERT INTO audit_log (trace_id, session_id, timestamp, event_type, data, run_id, seq) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
ADVANCE = (
    "INSERT INTO journal_cursors (reader, position) VALUES (?, ?) "
    "ON CONFLICT (reader) DO UPDATE SET position = excluded.position"
)
COLUMNS = "id, trace_id, session_id, timestamp, event_type, data, run_id, seq"
_FINAL_SQL = ", ".join(f"'{kind}'" for kind in sorted(FINAL))
RUNS = f"""
SELECT s.run_id, s.session_id, s.trace_id, s.data, s.timestamp, f.event_type, f.data, f.timestamp
FROM audit_log s LEFT JOIN audit_log f ON f.run_id = s.run_id AND f.event_type IN ({_FINAL_SQL})
WHERE s.event_type = 'PLAN_START'
  AND (:session_id = '' OR s.session_id = :session_id)
  AND (:before = '' OR s.id < (SELECT b.id FROM audit_log b WHERE b.run_id = :before AND b.seq = 1))
ORDER BY s.id DESC LIMIT :limit
"""  # noqa: S608 - only our own constants are put in
UNFINISHED = f"""
SELECT s.run_id FROM audit_log s WHERE s.event_type = 'PLAN_START' AND NOT EXISTS
  (SELECT 1 FROM audit_log f WHERE f.run_id = s.run_id AND f.event_type IN ({_FINAL_SQL}))
"""  # noqa: S608 - only our own constants are put in

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def values_of(event: Event) -> tuple[Any, ...]:
    """The values of `INSERT` for an event.

    Raises:
        ValueError: It holds what is not JSON.
    """
    return (
        event.trace_id,
        event.session_id,
        event.timestamp.isoformat(),
        event.type.value,
        _encode(event.data).decode(),
        event.run_id,
        event.seq,
    )


def event_of(row: Sequence[Any]) -> Event:
    """The event in a row of `COLUMNS`."""
    return Event(
        run_id=row[6],
        seq=row[7],
        type=EventType(row[4]),
        timestamp=datetime.fromisoformat(row[3]),
        trace_id=row[1],
        session_id=row[2],
        data=_decode(row[5]),
    )


def summary_of(row: Sequence[Any]) -> RunSummary:
    """The run in a row of `RUNS`."""
    run_id, session_id, trace_id, start, started_at, final, end, ended_at = row
    return RunSummary(
        run_id=run_id,
        session_id=session_id,
        trace_id=trace_id,
        status=_status(final, end),
        prompt=_decode(start)["prompt"],
        started_at=datetime.fromisoformat(started_at).astimezone(UTC),
        ended_at=datetime.fromisoformat(ended_at) if ended_at else None,
    )


def _status(final: str | None, data: str | None) -> RunStatus:
    if final is None or data is None:
        return RunStatus.RUNNING
    if final == EventType.PLAN_END:
        return RunStatus(_decode(data)["status"])
    return RunStatus.FAILED if final == EventType.PLAN_ERROR else RunStatus.CANCELLED
