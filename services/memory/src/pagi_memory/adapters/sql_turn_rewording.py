"""What is searched of the turns behind one that was changed or forgotten: each is found by the one before it, too."""

from __future__ import annotations

from pagi_memory.adapters import sql_session_statements as sql
from pagi_memory.adapters.sql_script import Repeated, Script, Statement
from pagi_memory.adapters.sql_turn_rows import stored_turn
from pagi_memory.adapters.sql_turn_words import owner_word, words_of
from pagi_memory.domain.clock import microseconds
from pagi_memory.domain.model import SessionKey, Turn, TurnRole

SAID = frozenset({TurnRole.USER, TurnRole.ASSISTANT})
# Turns behind it that may be found by it: the calls of its run, the next request and its calls. Some more, since a turn
# that was stored late stands in between and was not there when the next one was stored.
_MOST_BEHIND = 50


def place_of(turn: Turn) -> tuple[int, str, int]:
    """Where it stands in its session."""
    return microseconds(turn.created_at), turn.run_id, turn.position


def reword(key: SessionKey, turn: Turn) -> Script[None]:
    """Makes the words of a turn anew, where it is still there, and of those behind it."""
    where = (key.tenant, key.session_id, *place_of(turn))
    rows = yield Statement(sql.SAID_BEFORE_PLACE, where)
    before = rows[0][0] if rows else ""
    words = []
    for stored in map(stored_turn, (yield Statement(sql.TURNS_FROM, (*where, _MOST_BEHIND + 1)))):
        words.append((stored.number, owner_word(key.tenant), words_of(stored.turn, before)))
        if stored.turn.role in SAID:
            before = stored.turn.text
    yield Repeated(sql.DELETE_WORDS_OF_TURN, [(number,) for number, *_ in words])
    yield Repeated(sql.NEW_WORDS, words)
