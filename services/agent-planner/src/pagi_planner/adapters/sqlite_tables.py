"""The tables of the journal, and how rows become events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pagi_planner.adapters.run_rows import PROMPT_KEPT, change_of, parent_of, prompt_head
from pagi_planner.domain.model import RunStatus, RunSummary
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.state.events import FINAL, Event, EventType

# No row is ever deleted, so ids only grow. AUTOINCREMENT would say so, too, by one more page in each commit: a tenth of
# what it takes.
SCHEMA = """
CREATE TABLE IF NOT EXISTS audit_log (
    id INTEGER PRIMARY KEY,
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
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    parent_run_id TEXT NOT NULL,
    prompt TEXT NOT NULL,
    status TEXT NOT NULL,
    waiting INTEGER NOT NULL,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT
);
CREATE INDEX IF NOT EXISTS runs_session ON runs (session_id, id);
CREATE INDEX IF NOT EXISTS runs_status ON runs (status, id);
CREATE INDEX IF NOT EXISTS runs_parent ON runs (parent_run_id) WHERE parent_run_id <> '';
CREATE INDEX IF NOT EXISTS runs_unfinished ON runs (owner) WHERE ended_at IS NULL;
"""
_FINAL_SQL = ", ".join(f"'{kind}'" for kind in sorted(FINAL))
# For a file that was written before there were rows of runs. Nobody works on them: who opens the file claims them.
REBUILD = f"""
INSERT INTO runs (run_id, session_id, trace_id, parent_run_id, prompt, status, waiting, owner, epoch, started_at,
    ended_at)
SELECT s.run_id, s.session_id, s.trace_id, coalesce(json_extract(s.data, '$.parent_run_id'), ''),
    substr(coalesce(json_extract(s.data, '$.prompt'), ''), 1, {PROMPT_KEPT}),
    CASE f.event_type WHEN 'PLAN_END' THEN json_extract(f.data, '$.status') WHEN 'PLAN_ERROR' THEN 'failed'
        WHEN 'PLAN_CANCELLED' THEN 'cancelled'
        ELSE CASE WHEN coalesce(w.waiting, 0) > 0 THEN 'waiting_approval' ELSE 'running' END END,
    CASE WHEN f.id IS NULL THEN coalesce(w.waiting, 0) ELSE 0 END, 'earlier', {FIRST_EPOCH}, s.timestamp, f.timestamp
FROM audit_log s
LEFT JOIN audit_log f ON f.run_id = s.run_id AND f.event_type IN ({_FINAL_SQL})
LEFT JOIN (
    SELECT run_id, sum(CASE event_type WHEN 'APPROVAL_REQUESTED' THEN 1 ELSE -1 END) AS waiting FROM audit_log
    WHERE event_type IN ('APPROVAL_REQUESTED', 'APPROVAL_DECIDED') GROUP BY run_id
) w ON w.run_id = s.run_id
WHERE s.seq = 1 ORDER BY s.id
"""  # noqa: S608 - only our own constants are put in
INSERT = """
INSERT INTO audit_log (trace_id, session_id, timestamp, event_type, data, run_id, seq)
SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS
  (SELECT 1 FROM runs WHERE run_id = ? AND owner = ? AND epoch = ? AND ended_at IS NULL)
"""
BEGIN_RUN = f"""
INSERT INTO runs (run_id, session_id, trace_id, parent_run_id, prompt, status, waiting, owner, epoch, started_at)
VALUES (?, ?, ?, ?, ?, 'running', 0, ?, {FIRST_EPOCH}, ?) ON CONFLICT (run_id) DO NOTHING
"""  # noqa: S608 - only our own constants are put in
WAIT_OR_GO_ON = """
UPDATE runs SET waiting = waiting + ?1,
    status = CASE WHEN waiting + ?1 > 0 THEN 'waiting_approval' ELSE 'running' END
WHERE run_id = ?2
"""
END_RUN = "UPDATE runs SET status = ?, ended_at = ?, waiting = 0 WHERE run_id = ?"
ADVANCE = (
    "INSERT INTO journal_cursors (reader, position) VALUES (?, ?) "
    "ON CONFLICT (reader) DO UPDATE SET position = excluded.position"
)
# The file belongs to one process: whoever else had one of its runs is dead.
CLAIM = """
UPDATE runs SET owner = ?, epoch = epoch + 1 WHERE run_id = ? AND ended_at IS NULL
RETURNING run_id, epoch, session_id, trace_id,
  (SELECT max(seq) FROM audit_log WHERE audit_log.run_id = runs.run_id), owner
"""
RELEASE = "UPDATE runs SET owner = '' WHERE run_id = ? AND owner = ? AND epoch = ? AND ended_at IS NULL"
# Without being told, SQLite would read all rows to have them in order.
LAPSED = "SELECT run_id FROM runs INDEXED BY runs_unfinished WHERE ended_at IS NULL AND owner > '' ORDER BY id"
UNFINISHED = "SELECT run_id FROM runs INDEXED BY runs_unfinished WHERE ended_at IS NULL ORDER BY id"
COLUMNS = "id, trace_id, session_id, timestamp, event_type, data, run_id, seq"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def statements_of(event: Event, owner: str, epoch: int) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """What writes an event and keeps the row of its run, in order.

    Raises:
        ValueError: It holds what is not JSON.
    """
    at = event.timestamp.isoformat()
    insert = (
        INSERT,
        (
            event.trace_id,
            event.session_id,
            at,
            event.type.value,
            _encode(event.data).decode(),
            event.run_id,
            event.seq,
            event.run_id,
            owner,
            epoch,
        ),
    )
    if event.seq == 1:
        named = (event.run_id, event.session_id, event.trace_id, parent_of(event), prompt_head(event), owner, at)
        return ((BEGIN_RUN, named), insert)
    change = change_of(event)
    if change.end:
        return (insert, (END_RUN, (change.end, at, event.run_id)))
    if change.waiting:
        return (insert, (WAIT_OR_GO_ON, (change.waiting, event.run_id)))
    return (insert,)


def runs_query(*, limit: int, before: str, session_id: str, status: str) -> tuple[str, list[Any]]:
    """The newest runs as `summary_of` reads them. Only conditions that are asked for, so that each has its index."""
    wanted, values = [], []
    if session_id:
        wanted.append("session_id = ?")
        values.append(session_id)
    if status:
        wanted.append("status = ?")
        values.append(status)
    if before:
        wanted.append("id < (SELECT id FROM runs WHERE run_id = ?)")
        values.append(before)
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    return (
        "SELECT run_id, session_id, trace_id, status, prompt, started_at, ended_at, parent_run_id FROM runs "  # noqa: S608
        f"{where} ORDER BY id DESC LIMIT ?",
        [*values, limit],
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
    """The run in a row of `runs_query`."""
    run_id, session_id, trace_id, status, prompt, started_at, ended_at, parent_run_id = row
    return RunSummary(
        run_id=run_id,
        session_id=session_id,
        trace_id=trace_id,
        status=RunStatus(status),
        prompt=prompt,
        started_at=datetime.fromisoformat(started_at).astimezone(UTC),
        ended_at=datetime.fromisoformat(ended_at) if ended_at else None,
        parent_run_id=parent_run_id,
    )
