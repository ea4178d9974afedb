"""The tables of the journal in PostgreSQL, and the statements on them.

They are those of SQLite, and three more for what several planners have to agree on: who lives (`planners`), who reads
for whom (`journal_cursors.owner`), and what one has been asked that another must do (`run_orders`).
"""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trace_id text NOT NULL,
    session_id text NOT NULL,
    timestamp timestamptz NOT NULL,
    event_type text NOT NULL,
    data json NOT NULL,
    run_id text NOT NULL,
    seq integer NOT NULL,
    UNIQUE (run_id, seq)
);
CREATE INDEX IF NOT EXISTS audit_log_trace ON audit_log (trace_id);
CREATE UNIQUE INDEX IF NOT EXISTS audit_log_final ON audit_log (run_id)
    WHERE event_type IN ('PLAN_END', 'PLAN_ERROR', 'PLAN_CANCELLED');
CREATE TABLE IF NOT EXISTS journal_cursors (
    reader text PRIMARY KEY,
    position bigint NOT NULL,
    owner text NOT NULL
);
CREATE TABLE IF NOT EXISTS runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL UNIQUE,
    session_id text NOT NULL,
    trace_id text NOT NULL,
    parent_run_id text NOT NULL,
    prompt text NOT NULL,
    status text NOT NULL,
    waiting integer NOT NULL,
    owner text NOT NULL,
    epoch bigint NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX IF NOT EXISTS runs_session ON runs (session_id, id);
CREATE INDEX IF NOT EXISTS runs_status ON runs (status, id);
CREATE INDEX IF NOT EXISTS runs_parent ON runs (parent_run_id) WHERE parent_run_id <> '';
CREATE INDEX IF NOT EXISTS runs_unfinished ON runs (owner) WHERE ended_at IS NULL;
CREATE TABLE IF NOT EXISTS planners (
    owner text PRIMARY KEY,
    beat bigint NOT NULL,
    -- For people; no decision is made by it.
    seen_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS run_orders (
    run_id text NOT NULL,
    kind text NOT NULL,
    call_id text NOT NULL,
    data json NOT NULL,
    PRIMARY KEY (run_id, kind, call_id)
);
"""
# Another planner may make the same tables at the same time: the number is any one that nobody else uses.
SCHEMA_LOCK = 7_210_850_585

# One statement, so that no process can stop in the middle of the transaction and leave rows locked. The lock on the
# run's row lets a claim wait, or skip it, until the rows are in; a claim that came before shows another epoch.
# $1 ... $8 are the events, $9 and $10 what they change in their runs' rows, $11 ... $19 the runs that begin with them.
APPEND = """
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::json[], $6::text[], $7::integer[],
        $8::bigint[], $9::integer[], $10::text[]) WITH ORDINALITY
    AS i(trace_id, session_id, timestamp, event_type, data, run_id, seq, epoch, waiting, ends, place)
), begun AS (
    INSERT INTO runs (run_id, session_id, trace_id, parent_run_id, prompt, status, waiting, started_at, ended_at,
        owner, epoch)
    SELECT *, $20::text, 1 FROM unnest($11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
        $17::integer[], $18::timestamptz[], $19::timestamptz[])
    ON CONFLICT DO NOTHING RETURNING run_id, epoch
), owned AS (
    SELECT run_id, epoch FROM runs
    WHERE run_id = ANY($6) AND owner = $20 AND (ended_at IS NULL OR $21::boolean) FOR KEY SHARE
), allowed AS (
    SELECT run_id, epoch FROM begun UNION ALL SELECT run_id, epoch FROM owned
), inserted AS (
    INSERT INTO audit_log (trace_id, session_id, timestamp, event_type, data, run_id, seq)
    SELECT trace_id, session_id, timestamp, event_type, data, run_id, seq
    FROM input JOIN allowed USING (run_id, epoch) ORDER BY place
    ON CONFLICT DO NOTHING RETURNING id, run_id, seq
), changed AS (
    UPDATE runs r SET
        waiting = CASE WHEN d.ends <> '' THEN 0 ELSE r.waiting + d.waiting END,
        status = CASE WHEN d.ends <> '' THEN d.ends WHEN r.waiting + d.waiting > 0 THEN 'waiting_approval'
            ELSE 'running' END,
        ended_at = d.ended_at
    FROM (
        SELECT run_id, sum(waiting) AS waiting, max(ends) AS ends,
            max(timestamp) FILTER (WHERE ends <> '') AS ended_at
        FROM input JOIN inserted USING (run_id, seq) WHERE waiting <> 0 OR ends <> '' GROUP BY run_id
    ) d
    WHERE r.run_id = d.run_id
)
SELECT run_id, a.epoch, count(i.id) FROM allowed a LEFT JOIN inserted i USING (run_id) GROUP BY run_id, a.epoch
"""
ADVANCE = "UPDATE journal_cursors SET position = $2 WHERE reader = $1 AND owner = $3"
COLUMNS = "id, trace_id, session_id, timestamp, event_type, data, run_id, seq"
EVENTS = f"SELECT {COLUMNS} FROM audit_log WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"  # noqa: S608
FOUND = f"""
SELECT {COLUMNS} FROM audit_log
WHERE trace_id = $1 OR run_id IN (SELECT run_id FROM runs WHERE run_id = $1 OR session_id = $1) ORDER BY id
"""  # noqa: S608
AFTER = f"""
SELECT {COLUMNS} FROM audit_log WHERE id > $1 AND id <= $2 AND event_type = ANY($3) ORDER BY id LIMIT $4
"""  # noqa: S608
# What of the journal is committed behind a place, and which transactions could still add to it.
LOOK = """
SELECT (SELECT max(id) FROM audit_log WHERE id > $1), (SELECT count(*) FROM audit_log WHERE id > $1),
    pg_snapshot_xmin(s)::text::bigint AS running_from, pg_snapshot_xmax(s)::text::bigint
FROM pg_current_snapshot() s
"""
TOP = """
SELECT coalesce(max(id), 0), pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM audit_log
"""
RUNS = """
SELECT run_id, session_id, trace_id, status, prompt, started_at, ended_at, parent_run_id FROM runs {where}
ORDER BY id DESC LIMIT {limit}
"""
UNFINISHED = "SELECT run_id FROM runs WHERE ended_at IS NULL ORDER BY id"

BEAT = """
WITH mine AS (
    INSERT INTO planners (owner, beat, seen_at) VALUES ($1, 1, now())
    ON CONFLICT (owner) DO UPDATE SET beat = planners.beat + 1, seen_at = now()
), others AS (
    SELECT owner FROM runs WHERE ended_at IS NULL AND owner > '' UNION SELECT owner FROM journal_cursors
)
SELECT owner, beat FROM others LEFT JOIN planners USING (owner) WHERE owner NOT IN ('', $1)
"""
# Held by a planner's session for as long as that lives, whatever the planner does or does not do.
HOLD = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
# Of these planners those whose session has ended.
GONE = "SELECT owner FROM unnest($1::text[]) AS o(owner) WHERE pg_try_advisory_xact_lock(hashtextextended(owner, 0))"
RESIGN = "DELETE FROM planners WHERE owner = $1"
# Rows of planners that are long gone and have nothing left.
BURY = """
DELETE FROM planners p WHERE seen_at < now() - interval '1 day' AND owner <> $1
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.owner = p.owner AND r.ended_at IS NULL)
"""
# Those of the dead that have shown no sign of life since they were looked at.
_DEAD = """
SELECT d.owner FROM unnest($2::text[], $3::bigint[]) AS d(owner, beat) LEFT JOIN planners p USING (owner)
WHERE p.beat IS NOT DISTINCT FROM d.beat
"""
# The readers whose turn it is to be read for here.
TURNS = "SELECT reader FROM journal_cursors WHERE owner = $1"
LAPSED = """
SELECT run_id FROM runs WHERE ended_at IS NULL AND owner = ANY($1) ORDER BY id
"""
CLAIM = f"""
WITH free AS (
    SELECT run_id FROM runs WHERE run_id = ANY($4) AND ended_at IS NULL
        AND (owner IN ('', $1) OR owner IN ({_DEAD})) FOR UPDATE SKIP LOCKED
)
UPDATE runs r SET owner = $1, epoch = r.epoch + 1 FROM free WHERE r.run_id = free.run_id
RETURNING r.run_id, r.epoch, r.session_id, r.trace_id,
    (SELECT max(seq) FROM audit_log a WHERE a.run_id = r.run_id), r.owner
"""  # noqa: S608
RELEASE = "UPDATE runs SET owner = '' WHERE run_id = $1 AND owner = $2 AND epoch = $3 AND ended_at IS NULL"
TURN = f"""
INSERT INTO journal_cursors AS c (reader, position, owner) VALUES ($4, 0, $1)
ON CONFLICT (reader) DO UPDATE SET owner = $1 WHERE c.owner IN ('', $1) OR c.owner IN ({_DEAD})
RETURNING position
"""  # noqa: S608
CURSOR = "SELECT position FROM journal_cursors WHERE reader = $1"
LEAVE_READERS = "UPDATE journal_cursors SET owner = '' WHERE owner = $1"
ORDER = """
WITH word AS (
    INSERT INTO run_orders (run_id, kind, call_id, data) VALUES ($1, $2, $3, $4::json) ON CONFLICT DO NOTHING
)
SELECT pg_notify('pagi_orders', '')
"""
TAKE_ORDERS = """
DELETE FROM run_orders o USING runs r
WHERE r.run_id = o.run_id AND (r.owner = $1 OR r.ended_at IS NOT NULL)
RETURNING o.run_id, o.kind, o.data, r.ended_at IS NULL
"""
