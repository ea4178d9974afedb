"""The statements of sessions and turns; all run on SQLite and on PostgreSQL."""
# ruff: noqa: S608 - what is put into a statement here is a constant of ours, never a value

from __future__ import annotations

from pagi_memory.adapters.sql_turn_rows import TURN_COLUMNS

OF_SESSION = "tenant = ? AND session_id = ?"
NEW_SESSION = """
INSERT INTO sessions (tenant, session_id, persona, title, created_at_us, updated_at_us) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, session_id) DO UPDATE SET
    persona = CASE
        WHEN excluded.updated_at_us >= sessions.updated_at_us THEN excluded.persona ELSE sessions.persona
    END,
    updated_at_us = CASE
        WHEN excluded.updated_at_us > sessions.updated_at_us THEN excluded.updated_at_us ELSE sessions.updated_at_us
    END
"""
# Some rows in one statement: each statement hands the interpreter's lock over and back.
NEW_TURNS = """
INSERT INTO turns (tenant, session_id, run_id, position, role, body, created_at_us, edited_at_us) VALUES {rows}
ON CONFLICT (tenant, session_id, run_id, position) DO NOTHING RETURNING run_id, position, number
"""
NEW_TURN_ROW = "(?, ?, ?, ?, ?, ?, ?, ?)"
NEW_WORDS = "INSERT INTO turn_words (rowid, owner, words) VALUES (?, ?, ?)"
NEW_VECTOR = "INSERT INTO turn_vectors (turn, tenant, model, vector) VALUES (?, ?, ?, ?)"
DELETE_VECTOR = "DELETE FROM turn_vectors WHERE turn = ?"
DELETE_VECTORS = f"DELETE FROM turn_vectors WHERE turn IN (SELECT number FROM turns WHERE {OF_SESSION})"
VECTORS = """
SELECT turn_vectors.turn, turn_vectors.vector FROM turn_vectors {joined}
WHERE turn_vectors.tenant = ? AND turn_vectors.model = ? {narrowing} ORDER BY turn_vectors.turn DESC LIMIT ?
"""
OF_ITS_SESSION = """
JOIN turns ON turns.number = turn_vectors.turn
JOIN sessions ON sessions.tenant = turns.tenant AND sessions.session_id = turns.session_id
"""
FOUND = f"""
SELECT sessions.session_id, sessions.title, {", ".join(f"turns.{c}" for c in TURN_COLUMNS.split(", "))}
FROM turns JOIN sessions ON sessions.tenant = turns.tenant AND sessions.session_id = turns.session_id
WHERE turns.tenant = ? AND turns.number IN ({{marks}})
"""
FORGOTTEN = "SELECT position FROM forgotten WHERE tenant = ? AND session_id = ? AND run_id = ?"
NEW_FORGOTTEN = """
INSERT INTO forgotten (tenant, session_id, run_id, position, forgotten_at_us) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, session_id, run_id, position) DO NOTHING
"""
OF_TURN = "tenant = ? AND session_id = ? AND run_id = ? AND position = ?"
# By the time at which it was said, not stored: a planner that could not reach memory stores later.
_NEWEST_FIRST = "ORDER BY created_at_us DESC, run_id DESC, position DESC LIMIT ?"
NEWEST = f"SELECT {TURN_COLUMNS} FROM turns WHERE {OF_SESSION} {_NEWEST_FIRST}"
NEWEST_BEFORE = f"""
SELECT {TURN_COLUMNS} FROM turns WHERE {OF_SESSION} AND (created_at_us, run_id, position) < (?, ?, ?) {_NEWEST_FIRST}
"""
_IN_ORDER = "ORDER BY created_at_us, run_id, position LIMIT ?"
TURNS = f"SELECT {TURN_COLUMNS} FROM turns WHERE {OF_SESSION} {_IN_ORDER}"
TURNS_FROM = f"""
SELECT {TURN_COLUMNS} FROM turns WHERE {OF_SESSION} AND (created_at_us, run_id, position) >= (?, ?, ?) {_IN_ORDER}
"""
TURNS_AFTER = f"""
SELECT {TURN_COLUMNS} FROM turns WHERE {OF_SESSION} AND (created_at_us, run_id, position) > (?, ?, ?) {_IN_ORDER}
"""
WINDOW = f"""
SELECT {TURN_COLUMNS}, summarized FROM turns WHERE {OF_SESSION}
ORDER BY created_at_us DESC, run_id DESC, position DESC LIMIT ?
"""
# Those before the window.
PENDING = f"""
SELECT {TURN_COLUMNS} FROM turns
WHERE {OF_SESSION} AND summarized = 0 AND (created_at_us, run_id, position) < (?, ?, ?)
ORDER BY created_at_us, run_id, position LIMIT ?
"""
SAID_BEFORE = f"""
SELECT body FROM turns WHERE {OF_SESSION} AND created_at_us <= ? AND role IN ('user', 'assistant') AND run_id <> ?
ORDER BY created_at_us DESC, run_id DESC, position DESC LIMIT 1
"""
SAID_BEFORE_PLACE = f"""
SELECT body FROM turns
WHERE {OF_SESSION} AND (created_at_us, run_id, position) < (?, ?, ?) AND role IN ('user', 'assistant')
ORDER BY created_at_us DESC, run_id DESC, position DESC LIMIT 1
"""
SUMMARY = f"SELECT summary, summary_by, summary_version FROM sessions WHERE {OF_SESSION}"
# Without a look at the rows: an index holds all turns, another those that wait.
COUNT_TURNS = f"SELECT count(*) FROM turns WHERE {OF_SESSION}"
COUNT_PENDING = f"SELECT count(*) FROM turns WHERE {OF_SESSION} AND summarized = 0"
ROLL = f"""
UPDATE sessions SET summary = ?, summary_by = ?, summary_version = summary_version + 1
WHERE {OF_SESSION} AND summary_version = ? RETURNING summary_version
"""
COVER = f"UPDATE turns SET summarized = 1 WHERE number = ? AND {OF_SESSION}"
DROP_SUMMARY = f"""
UPDATE sessions SET summary = '', summary_by = '', summary_version = summary_version + 1
WHERE {OF_SESSION} RETURNING session_id
"""
UNCOVER = f"UPDATE turns SET summarized = 0 WHERE {OF_SESSION} AND summarized = 1"
SESSIONS = """
SELECT session_id, title, persona, created_at_us, updated_at_us,
    (SELECT count(*) FROM turns WHERE turns.tenant = sessions.tenant AND turns.session_id = sessions.session_id)
FROM sessions WHERE tenant = ?
"""
PERSONA = f"SELECT persona FROM sessions WHERE {OF_SESSION}"
RENAME = f"UPDATE sessions SET title = ? WHERE {OF_SESSION} RETURNING session_id"
RUNS = f"SELECT DISTINCT run_id FROM turns WHERE {OF_SESSION}"
DELETE_WORDS = f"DELETE FROM turn_words WHERE rowid IN (SELECT number FROM turns WHERE {OF_SESSION})"
DELETE_TURNS = f"DELETE FROM turns WHERE {OF_SESSION} RETURNING number"
DELETE_SESSION = f"DELETE FROM sessions WHERE {OF_SESSION} RETURNING session_id"
# Looked at first: the session is locked before its turns, as where a summary is stored.
HAS_TURN = f"SELECT number FROM turns WHERE {OF_TURN}"
EDIT = f"UPDATE turns SET body = ?, edited_at_us = ? WHERE {OF_TURN} RETURNING {TURN_COLUMNS}"
DELETE_TURN = f"DELETE FROM turns WHERE {OF_TURN} RETURNING {TURN_COLUMNS}"
STATISTICS = """
SELECT count(*), coalesce(sum(length(body)), 0), coalesce(sum(summarized), 0), min(created_at_us), max(created_at_us)
FROM turns WHERE tenant = ?
"""
OLD_SESSIONS = "SELECT tenant, session_id, updated_at_us FROM sessions WHERE updated_at_us < ?"
AS_SEEN = f"SELECT session_id FROM sessions WHERE {OF_SESSION} AND updated_at_us = ?"
CROWDED_TENANTS = "SELECT tenant FROM sessions GROUP BY tenant HAVING count(*) > ?"
TOO_MANY = """
SELECT session_id, updated_at_us FROM sessions WHERE tenant = ? ORDER BY updated_at_us DESC, session_id DESC
"""
LONG_SESSIONS = "SELECT tenant, session_id, count(*) FROM turns GROUP BY tenant, session_id HAVING count(*) > ?"
OLDEST_TURNS = f"""
SELECT number FROM turns WHERE {OF_SESSION} ORDER BY created_at_us, run_id, position LIMIT ?
"""
BRING_BACK = f"DELETE FROM forgotten WHERE {OF_TURN}"
DELETE_WORDS_OF_TURN = "DELETE FROM turn_words WHERE rowid = ?"
DELETE_TURN_BY_NUMBER = "DELETE FROM turns WHERE number = ?"
DELETE_FORGOTTEN = "DELETE FROM forgotten WHERE forgotten_at_us < ?"
COUNT_SESSIONS = "SELECT count(*) FROM sessions WHERE tenant = ?"
