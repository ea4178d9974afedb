"""The tables of sessions, turns and playbooks, for SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Literal

# Times are microseconds since 1970. `summary_version` changes with the summary and with the turns that it covers.
# `forgotten` keeps what may not come back by a late repeat; position -1 stands for the whole run.
_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS sessions (
        tenant TEXT NOT NULL,
        session_id TEXT NOT NULL,
        persona TEXT NOT NULL,
        title TEXT NOT NULL,
        created_at_us BIGINT NOT NULL,
        updated_at_us BIGINT NOT NULL,
        summary TEXT NOT NULL DEFAULT '',
        summary_by TEXT NOT NULL DEFAULT '',
        summary_version BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, session_id)
    )
    """,
    "CREATE INDEX IF NOT EXISTS sessions_by_time ON sessions (tenant, updated_at_us, session_id)",
    """
    CREATE TABLE IF NOT EXISTS turns (
        number {number} PRIMARY KEY,
        tenant TEXT NOT NULL,
        session_id TEXT NOT NULL,
        run_id TEXT NOT NULL,
        position INTEGER NOT NULL,
        role TEXT NOT NULL,
        body TEXT NOT NULL,
        created_at_us BIGINT NOT NULL,
        edited_at_us BIGINT,
        summarized INTEGER NOT NULL DEFAULT 0,
        UNIQUE (tenant, session_id, run_id, position)
    )
    """,
    "CREATE INDEX IF NOT EXISTS turns_by_time ON turns (tenant, session_id, created_at_us, run_id, position)",
    # In the order in which they are summed up: what waits is found without a look at the rest of the session.
    """
    CREATE INDEX IF NOT EXISTS turns_to_sum_up ON turns (tenant, session_id, created_at_us, run_id, position)
    WHERE summarized = 0
    """,
    "DROP INDEX IF EXISTS turns_pending",
    # What requests mean, by the number of the turn.
    """
    CREATE TABLE IF NOT EXISTS turn_vectors (
        turn BIGINT PRIMARY KEY,
        tenant TEXT NOT NULL,
        model TEXT NOT NULL,
        vector {blob} NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS turn_vectors_of_tenant ON turn_vectors (tenant, model, turn)",
    """
    CREATE TABLE IF NOT EXISTS forgotten (
        tenant TEXT NOT NULL,
        session_id TEXT NOT NULL,
        run_id TEXT NOT NULL,
        position INTEGER NOT NULL,
        forgotten_at_us BIGINT NOT NULL,
        PRIMARY KEY (tenant, session_id, run_id, position)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS playbooks (
        id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        persona TEXT NOT NULL,
        prompt TEXT NOT NULL,
        steps TEXT NOT NULL,
        tool_versions TEXT NOT NULL,
        cost_usd DOUBLE PRECISION,
        duration_ms DOUBLE PRECISION NOT NULL,
        wins INTEGER NOT NULL,
        losses INTEGER NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        notes TEXT NOT NULL,
        created_at_us BIGINT NOT NULL,
        updated_at_us BIGINT NOT NULL,
        last_used_at_us BIGINT
    )
    """,
    # Of each prompt one for each model that serves somewhere. A number is never given again: it names the vector in
    # the index.
    """
    CREATE TABLE IF NOT EXISTS playbook_vectors (
        number {counter},
        playbook_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        persona TEXT NOT NULL,
        model TEXT NOT NULL,
        vector {blob} NOT NULL,
        UNIQUE (playbook_id, model)
    )
    """,
    "CREATE INDEX IF NOT EXISTS playbook_vectors_of_shelf ON playbook_vectors (owner, persona, model, number)",
    "CREATE INDEX IF NOT EXISTS playbooks_of_persona ON playbooks (tenant, persona, state)",
    "CREATE INDEX IF NOT EXISTS playbooks_by_time ON playbooks (tenant, updated_at_us, id)",
    """
    CREATE TABLE IF NOT EXISTS playbook_runs (
        playbook_id TEXT NOT NULL,
        run_id TEXT NOT NULL,
        outcome TEXT NOT NULL,
        noted_at_us BIGINT NOT NULL,
        PRIMARY KEY (playbook_id, run_id)
    )
    """,
)

# The words of each turn, with its date and the turn before. FTS5 finds a tenant's rows by a word of its own, so that
# a search is an intersection inside the index and not a look at the row of every match.
_WORDS = {
    "sqlite": ("CREATE VIRTUAL TABLE IF NOT EXISTS turn_words USING fts5(owner, words, tokenize='porter unicode61')",),
    "postgresql": (
        "CREATE TABLE IF NOT EXISTS turn_words (rowid BIGINT PRIMARY KEY, owner TEXT NOT NULL, words TEXT NOT NULL)",
        # Kept and not made for each match: ranking takes a tenth of the time. With the owner's word in it the index
        # finds a tenant's own; what others have said costs it nothing.
        """
        ALTER TABLE turn_words ADD COLUMN IF NOT EXISTS lexemes tsvector
        GENERATED ALWAYS AS (to_tsvector('simple', owner) || to_tsvector('english', words)) STORED
        """,
        "CREATE INDEX IF NOT EXISTS turn_words_by_lexeme ON turn_words USING gin (lexemes)",
        "DROP INDEX IF EXISTS turn_words_index",
    ),
}
_TYPES = {
    "sqlite": {"number": "INTEGER", "blob": "BLOB", "counter": "INTEGER PRIMARY KEY AUTOINCREMENT"},
    "postgresql": {
        "number": "BIGINT GENERATED BY DEFAULT AS IDENTITY",
        "blob": "BYTEA",
        "counter": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    },
}


def schema(dialect: Literal["sqlite", "postgresql"]) -> tuple[str, ...]:
    """The statements that make what is not there."""
    return tuple(statement.format(**_TYPES[dialect]) for statement in _TABLES) + _WORDS[dialect]


# Of a version that kept the runs for ever: they are kept from now on as if they were of now.
HAS_RUN_TIMES = {
    "sqlite": "SELECT name FROM pragma_table_info('playbook_runs') WHERE name = 'noted_at_us'",
    "postgresql": """
        SELECT column_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = 'playbook_runs' AND column_name = 'noted_at_us'
    """,
}
ADD_RUN_TIMES = "ALTER TABLE playbook_runs ADD COLUMN noted_at_us BIGINT NOT NULL DEFAULT 0"
SET_RUN_TIMES = "UPDATE playbook_runs SET noted_at_us = ?"
RUNS_BY_TIME = "CREATE INDEX IF NOT EXISTS playbook_runs_by_time ON playbook_runs (noted_at_us)"

# Whether the playbooks are those of a version that kept one vector with each.
HAS_OLD_VECTORS = {
    "sqlite": "SELECT name FROM pragma_table_info('playbooks') WHERE name = 'vector'",
    "postgresql": """
        SELECT column_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = 'playbooks' AND column_name = 'vector'
    """,
}
OLD_VECTORS = "SELECT id, tenant, persona, model, vector FROM playbooks"
DROP_OLD_VECTORS = ("ALTER TABLE playbooks DROP COLUMN vector", "ALTER TABLE playbooks DROP COLUMN model")
