"""Deletes sessions and turns that are not to be kept, a few in each transaction, so that others write in between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from pagi_memory.adapters import sql_session_statements as sql
from pagi_memory.adapters.sql_script import Repeated, Script, SqlDatabase, Statement
from pagi_memory.domain.clock import microseconds
from pagi_memory.domain.model import SessionKey
from pagi_memory.domain.session import Retention

# A planner repeats what it could not store within days, not years.
FORGOTTEN_KEPT = timedelta(days=90)
# One transaction with as many takes about 30 ms. A session goes whole, however long it is.
TURNS_AT_ONCE = 500
_SESSIONS_AT_ONCE = 200

# A session as it was seen: tenant, id, when something was said in it last.
_Seen = tuple[str, str, int]


async def expire(database: SqlDatabase, retention: Retention, now: datetime) -> int:
    """See `SessionStore.expire`. A session in which something is said meanwhile stays."""
    doomed = await database.read(lambda: _doomed(retention, now))
    begin = forgotten = 0
    while begin < len(doomed):
        some = doomed[begin : begin + _SESSIONS_AT_ONCE]
        looked_at, deleted = await database.write(partial(_delete_some, some))
        begin += looked_at
        forgotten += deleted
    if retention.turns:
        await _shorten(database, retention.turns)
    await database.write(lambda: _delete_old_notes(now))
    return forgotten


def delete_session(key: SessionKey) -> Script[int | None]:
    """Deletes all of a session and says how many turns it had; None where there is none."""
    place = (key.tenant, key.session_id)
    if not (yield Statement(sql.DELETE_SESSION, place)):
        return None
    yield Statement(sql.DELETE_WORDS, place)
    yield Statement(sql.DELETE_VECTORS, place)
    return len((yield Statement(sql.DELETE_TURNS, place)))


def _doomed(retention: Retention, now: datetime) -> Script[list[_Seen]]:
    doomed: set[_Seen] = set()
    if retention.days:
        rows = yield Statement(sql.OLD_SESSIONS, (microseconds(now - timedelta(days=retention.days)),))
        doomed |= {(tenant, session_id, said_at) for tenant, session_id, said_at in rows}
    if retention.sessions:
        for (tenant,) in (yield Statement(sql.CROWDED_TENANTS, (retention.sessions,))):
            rows = yield Statement(sql.TOO_MANY, (tenant,))
            doomed |= {(tenant, session_id, said_at) for session_id, said_at in rows[retention.sessions :]}
    return sorted(doomed)


def _delete_some(sessions: Sequence[_Seen]) -> Script[tuple[int, int]]:
    """How many were looked at, and how many of them deleted."""
    looked_at = deleted = turns = 0
    for tenant, session_id, said_at in sessions:
        looked_at += 1
        if not (yield Statement(sql.AS_SEEN, (tenant, session_id, said_at))):
            continue
        turns += (yield from delete_session(SessionKey(tenant, session_id))) or 0
        deleted += 1
        if turns >= TURNS_AT_ONCE:
            break
    return looked_at, deleted


async def _shorten(database: SqlDatabase, most: int) -> None:
    def long_sessions() -> Script[list[SessionKey]]:
        rows = yield Statement(sql.LONG_SESSIONS, (most,))
        return [SessionKey(tenant, session_id) for tenant, session_id, _ in rows]

    for key in await database.read(long_sessions):
        while await database.write(partial(_delete_oldest, key, most)):
            pass


def _delete_oldest(key: SessionKey, most: int) -> Script[bool]:
    """Whether there are more to delete."""
    place = (key.tenant, key.session_id)
    [[count]] = yield Statement(sql.COUNT_TURNS, place)
    excess = int(count) - most
    if excess <= 0:
        return False
    doomed = yield Statement(sql.OLDEST_TURNS, (*place, min(excess, TURNS_AT_ONCE)))
    numbers = [(number,) for (number,) in doomed]
    yield Repeated(sql.DELETE_WORDS_OF_TURN, numbers)
    yield Repeated(sql.DELETE_VECTOR, numbers)
    yield Repeated(sql.DELETE_TURN_BY_NUMBER, numbers)
    return excess > len(numbers)


def _delete_old_notes(now: datetime) -> Script[None]:
    yield Statement(sql.DELETE_FORGOTTEN, (microseconds(now - FORGOTTEN_KEPT),))
