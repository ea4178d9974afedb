"""What of a turn is searched, and how each database does it.

The date and the turn before are part of a turn's words: an answer seldom repeats the words of its question. On LoCoMo
that took nDCG@10 from .459 to .476 (docs/memory.md).
"""
# ruff: noqa: S608 - what is put into a statement here is a constant of ours, never a value

from __future__ import annotations

import re
from collections.abc import Sequence

from pagi_memory.adapters.sql_turn_rows import TURN_COLUMNS
from pagi_memory.domain.model import Turn

MOST_CHARACTERS = 20_000
MOST_CHARACTERS_BEFORE = 1_000

_BEGIN, _END = "\x02", "\x03"
_MARKED = re.compile(f"{_BEGIN}([^{_END}]*){_END}")
_COLUMNS = ", ".join(f"turns.{column}" for column in TURN_COLUMNS.split(", "))

# Parameters: those of `search_parameters`, what narrows, the limit.
SEARCHES = {
    "sqlite": f"""
        SELECT sessions.session_id, sessions.title, -turn_words.rank,
            highlight(turn_words, 1, char(2), char(3)), {_COLUMNS}
        FROM turn_words
        JOIN turns ON turns.number = turn_words.rowid
        JOIN sessions ON sessions.tenant = turns.tenant AND sessions.session_id = turns.session_id
        WHERE turn_words MATCH ? AND turn_words.rank MATCH 'bm25(0.0, 1.0)' AND turns.tenant = ? {{narrowing}}
        ORDER BY turn_words.rank LIMIT ?
    """,
    "postgresql": f"""
        WITH query AS (SELECT to_tsquery('english', ?) AS words, ?::tsquery AS owner), best AS (
            SELECT sessions.session_id, sessions.title, turn_words.words,
                ts_rank_cd(turn_words.lexemes, query.words, 1) AS score, {_COLUMNS}
            FROM query, turn_words
            JOIN turns ON turns.number = turn_words.rowid
            JOIN sessions ON sessions.tenant = turns.tenant AND sessions.session_id = turns.session_id
            WHERE turn_words.lexemes @@ (query.words && query.owner) AND turns.tenant = ? {{narrowing}}
            ORDER BY score DESC, turns.number DESC LIMIT ?
        )
        SELECT session_id, title, score,
            ts_headline('english', best.words, query.words,
                'HighlightAll=true, StartSel=' || chr(2) || ', StopSel=' || chr(3)),
            {TURN_COLUMNS}
        FROM best, query ORDER BY score DESC, number DESC
    """,
}


def words_of(turn: Turn, before: str) -> str:
    """The text in which a turn is found."""
    return f"{turn.created_at:%Y-%m-%d %A %B}\n{before[:MOST_CHARACTERS_BEFORE]}\n{turn.text[:MOST_CHARACTERS]}"


def owner_word(tenant: str) -> str:
    """One word that stands for the tenant."""
    return f"t{tenant.encode().hex()}"


def search_parameters(dialect: str, words: Sequence[str], tenant: str) -> tuple[str, ...]:
    """A query for any of the words, which may hold any characters, of one tenant."""
    if dialect == "postgresql":
        # Quoted it is a lexeme to look up, whatever it holds.
        quoted = " | ".join("'" + word.replace("\\", "\\\\").replace("'", "''") + "'" for word in words)
        return quoted, owner_word(tenant), tenant
    quoted = " OR ".join('"' + word.replace('"', '""') + '"' for word in words)
    return f'owner : "{owner_word(tenant)}" AND words : ({quoted})', tenant


def matched_words(marked: str) -> list[str]:
    """The words between the marks, in lower case, each once."""
    return sorted({word.casefold() for word in _MARKED.findall(marked)})
