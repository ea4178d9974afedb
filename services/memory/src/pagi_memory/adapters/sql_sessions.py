"""Sessions and turns (Heart-KB) in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from pagi_memory.adapters import sql_forgetting
from pagi_memory.adapters import sql_session_statements as sql
from pagi_memory.adapters.reading_places import ReadingPlaces
from pagi_memory.adapters.sql_forgetting import delete_session
from pagi_memory.adapters.sql_script import Repeated, Script, SqlDatabase, Statement, marks
from pagi_memory.adapters.sql_turn_rewording import SAID, place_of, reword
from pagi_memory.adapters.sql_turn_rows import session_of, stored_turn, time_of, turn_of
from pagi_memory.adapters.sql_turn_words import SEARCHES, matched_words, owner_word, search_parameters, words_of
from pagi_memory.adapters.vector_rows import best_rows, stacked, to_blob
from pagi_memory.domain.clock import microseconds
from pagi_memory.domain.model import DEFAULT_PERSONA, SessionKey, Turn
from pagi_memory.domain.session import (
    HeartStatistics,
    Retention,
    SaidVector,
    Session,
    SessionRecord,
    Summary,
    TurnHit,
    Window,
    title_of,
)

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

R = TypeVar("R")

MOST_PENDING = 200
_ROWS_AT_ONCE = 50
# Comparing with as many takes some milliseconds.
MOST_COMPARED = 5_000


class SqlSessionStore:
    """`SessionStore` on any `SqlDatabase`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        # Of two readers one, of eight connections four: contexts of runs never wait for those who look around.
        self._places = ReadingPlaces(1 if database.dialect == "sqlite" else 4)

    async def append(
        self, key: SessionKey, persona: str, turns: Sequence[Turn], vectors: Sequence[SaidVector] = ()
    ) -> int:
        """See `SessionStore.append`."""

        def script() -> Script[int]:
            gone: set[tuple[str, int]] = set()
            for run_id in {turn.run_id for turn in turns}:
                rows = yield Statement(sql.FORGOTTEN, (*_of(key), run_id))
                gone |= {(run_id, position) for (position,) in rows}
            lasting = [t for t in turns if not {(t.run_id, t.position), (t.run_id, -1)} & gone]
            return (yield from _add(key, persona, title_of(turns), lasting, vectors)) if lasting else 0

        return await self._database.write(script)

    async def newest(self, key: SessionKey, limit: int, *, before: Turn | None = None) -> list[Turn]:
        """See `SessionStore.newest`."""
        place = place_of(before) if before else ()

        def script() -> Script[list[Turn]]:
            rows = yield Statement(sql.NEWEST_BEFORE if before else sql.NEWEST, (*_of(key), *place, limit))
            return [turn_of(row) for row in reversed(rows)]

        return await self._database.read(script)

    async def turns(self, key: SessionKey, *, after: Turn | None = None, limit: int) -> list[Turn]:
        """See `SessionStore.turns`."""
        place = place_of(after) if after else ()

        def script() -> Script[list[Turn]]:
            rows = yield Statement(sql.TURNS_AFTER if after else sql.TURNS, (*_of(key), *place, limit))
            return [turn_of(row) for row in rows]

        return await self._database.read(script)

    async def window(self, key: SessionKey, limit: int) -> Window:
        """See `SessionStore.window`."""

        def script() -> Script[Window]:
            rows = yield Statement(sql.WINDOW, (*_of(key), limit))
            if not rows:
                return Window(Summary(), [], [])
            newest = [stored_turn(row[:-1]) for row in reversed(rows)]
            pending = [each for each, row in zip(newest, reversed(rows), strict=True) if not row[-1]]
            # A session that has no more turns than these has nothing before them.
            if len(rows) == limit:
                older = yield Statement(sql.PENDING, (*_of(key), *place_of(newest[0].turn), MOST_PENDING))
                pending = [*map(stored_turn, older), *pending]
            return Window((yield from _summary(key)), newest, pending[:MOST_PENDING])

        return await self._database.read(script)

    async def roll(self, key: SessionKey, summary: Summary, numbers: Sequence[int]) -> bool:
        """See `SessionStore.roll`."""

        def script() -> Script[bool]:
            made = yield Statement(sql.ROLL, (summary.text, summary.made_by, *_of(key), summary.version))
            if made:
                yield Repeated(sql.COVER, [(number, *_of(key)) for number in numbers])
            return bool(made)

        return await self._database.write(script)

    async def sessions(
        self, tenant: str, *, limit: int, after: tuple[int, str] | None = None, persona: str = ""
    ) -> list[Session]:
        """See `SessionStore.sessions`."""
        statement = sql.SESSIONS
        bounds: list[str | int] = [tenant]
        if persona:
            statement += " AND persona = ?"
            bounds.append(persona)
        if after:
            statement += " AND (updated_at_us, session_id) < (?, ?)"
            bounds += after
        statement += " ORDER BY updated_at_us DESC, session_id DESC LIMIT ?"

        def script() -> Script[list[Session]]:
            rows = yield Statement(statement, (*bounds, limit))
            return [session_of(row) for row in rows]

        return await self._look(script)

    async def sessions_by_id(self, tenant: str, *, after: str = "", limit: int) -> list[Session]:
        """See `SessionStore.sessions_by_id`."""

        def script() -> Script[list[Session]]:
            rows = yield Statement(
                f"{sql.SESSIONS} AND session_id > ? ORDER BY session_id LIMIT ?", (tenant, after, limit)
            )
            return [session_of(row) for row in rows]

        return await self._look(script)

    async def session(self, key: SessionKey) -> tuple[Session, Summary] | None:
        """See `SessionStore.session`."""

        def script() -> Script[tuple[Session, Summary] | None]:
            rows = yield Statement(f"{sql.SESSIONS} AND session_id = ?", _of(key))
            if not rows:
                return None
            summary = yield from _summary(key)
            [[turns]] = yield Statement(sql.COUNT_TURNS, _of(key))
            [[pending]] = yield Statement(sql.COUNT_PENDING, _of(key))
            return session_of(rows[0]), replace(summary, turns=turns - pending)

        return await self._look(script)

    async def rename(self, key: SessionKey, title: str) -> bool:
        """See `SessionStore.rename`."""

        def script() -> Script[bool]:
            return bool((yield Statement(sql.RENAME, (title, *_of(key)))))

        return await self._database.write(script)

    async def forget_session(self, key: SessionKey, at: datetime) -> int | None:
        """See `SessionStore.forget_session`."""

        def script() -> Script[int | None]:
            runs = yield Statement(sql.RUNS, _of(key))
            forgotten = yield from delete_session(key)
            if forgotten is not None:
                yield Repeated(sql.NEW_FORGOTTEN, [(*_of(key), run_id, -1, microseconds(at)) for (run_id,) in runs])
            return forgotten

        return await self._database.write(script)

    async def edit_turn(self, key: SessionKey, run_id: str, position: int, text: str, at: datetime) -> Turn | None:
        """See `SessionStore.edit_turn`."""

        def script() -> Script[Turn | None]:
            place = (*_of(key), run_id, position)
            if not (yield Statement(sql.HAS_TURN, place)):
                return None
            yield from _drop_summary(key)
            rows = yield Statement(sql.EDIT, (text, microseconds(at), *place))
            if not rows:
                return None
            edited = stored_turn(rows[0])
            yield Statement(sql.DELETE_VECTOR, (edited.number,))
            yield from reword(key, edited.turn)
            return edited.turn

        return await self._database.write(script)

    async def forget_turn(self, key: SessionKey, run_id: str, position: int, at: datetime) -> bool:
        """See `SessionStore.forget_turn`."""

        def script() -> Script[bool]:
            place = (*_of(key), run_id, position)
            if not (yield Statement(sql.HAS_TURN, place)):
                return False
            yield from _drop_summary(key)
            rows = yield Statement(sql.DELETE_TURN, place)
            if not rows:
                return False
            gone = stored_turn(rows[0])
            yield Statement(sql.DELETE_WORDS_OF_TURN, (gone.number,))
            yield Statement(sql.DELETE_VECTOR, (gone.number,))
            yield Statement(sql.NEW_FORGOTTEN, (*place, microseconds(at)))
            yield from reword(key, gone.turn)
            return True

        return await self._database.write(script)

    async def search(
        self, tenant: str, words: Sequence[str], *, session_id: str = "", persona: str = "", limit: int
    ) -> list[TurnHit]:
        """See `SessionStore.search`."""
        dialect = self._database.dialect
        asked = search_parameters(dialect, words, tenant)
        narrowing, bounds = _narrowed(session_id, persona)

        def script() -> Script[list[TurnHit]]:
            rows = yield Statement(SEARCHES[dialect].format(narrowing=narrowing), (*asked, *bounds, limit))
            return [
                TurnHit(session, title, turn_of(turn), float(score), matched_words(marked))
                for session, title, score, marked, *turn in rows
            ]

        return await self._look(script)

    async def nearest(
        self, tenant: str, vector: Vector, model: str, *, session_id: str = "", persona: str = "", limit: int
    ) -> list[TurnHit]:
        """See `SessionStore.nearest`."""
        narrowing, bounds = _narrowed(session_id, persona)
        statement = sql.VECTORS.format(narrowing=narrowing, joined=sql.OF_ITS_SESSION if bounds else "")

        def script() -> Script[list[TurnHit]]:
            rows = yield Statement(statement, (tenant, model, *bounds, MOST_COMPARED))
            best = best_rows(*stacked([(str(number), blob) for number, blob in rows]), vector, limit)
            if not best:
                return []
            numbers = [int(hit.passage_id) for hit in best]
            found = yield Statement(sql.FOUND.format(marks=marks(numbers)), (tenant, *numbers))
            turns = {str(row[2]): (row[0], row[1], turn_of(row[2:])) for row in found}
            return [TurnHit(*turns[each], cosine, []) for each, cosine in best if each in turns]

        return await self._look(script)

    async def take_in(self, tenant: str, records: Sequence[SessionRecord]) -> int:
        """See `SessionStore.take_in`."""

        def script() -> Script[int]:
            stored = 0
            for record in sorted(records, key=lambda each: each.session_id):
                key = SessionKey(tenant, record.session_id)
                back = [(*_of(key), t.run_id, place) for t in record.turns for place in (t.position, -1)]
                yield Repeated(sql.BRING_BACK, back)
                if record.turns:
                    title = record.title or title_of(record.turns)
                    persona = record.persona or (yield from _persona(key))
                    stored += yield from _add(key, persona, title, record.turns)
            return stored

        return await self._database.write(script)

    async def statistics(self, tenant: str) -> HeartStatistics:
        """See `SessionStore.statistics`."""

        def script() -> Script[HeartStatistics]:
            [[sessions]] = yield Statement(sql.COUNT_SESSIONS, (tenant,))
            [[turns, characters, summarized, oldest, newest]] = yield Statement(sql.STATISTICS, (tenant,))
            return HeartStatistics(sessions, turns, int(characters), int(summarized), time_of(oldest), time_of(newest))

        return await self._look(script)

    async def expire(self, retention: Retention, now: datetime) -> int:
        """See `SessionStore.expire`."""
        return await sql_forgetting.expire(self._database, retention, now)

    async def _look(self, script: Callable[[], Script[R]]) -> R:
        """For who looks at lists or searches, which take as long as there is much."""
        return await self._places.read(lambda: self._database.read(script))


def _of(key: SessionKey) -> tuple[str, str]:
    return key.tenant, key.session_id


def _narrowed(session_id: str, persona: str) -> tuple[str, list[str]]:
    """A condition on `sessions` and its values."""
    wanted = {"sessions.session_id": session_id, "sessions.persona": persona}
    bounds = [value for value in wanted.values() if value]
    return "".join(f" AND {column} = ?" for column, value in wanted.items() if value), bounds


def _add(
    key: SessionKey, persona: str, title: str, turns: Sequence[Turn], vectors: Sequence[SaidVector] = ()
) -> Script[int]:
    """Adds turns of one session; those that are there stay as they are."""
    stored = 0
    said = {(each.run_id, each.position): each for each in vectors}
    before = yield from _said_before(key, turns[0])
    for begin in range(0, len(turns), _ROWS_AT_ONCE):
        some = turns[begin : begin + _ROWS_AT_ONCE]
        rows = ", ".join([sql.NEW_TURN_ROW] * len(some))
        values = [value for turn in some for value in (*_of(key), *_columns(turn))]
        made = yield Statement(sql.NEW_TURNS.format(rows=rows), values)
        numbers = {(run_id, position): number for run_id, position, number in made}
        words, meanings = [], []
        for turn in some:
            # Taken out: the same turn twice is one.
            if number := numbers.pop((turn.run_id, turn.position), None):
                words.append((number, owner_word(key.tenant), words_of(turn, before)))
                if meant := said.get((turn.run_id, turn.position)):
                    meanings.append((number, key.tenant, meant.model, to_blob(meant.vector)))
            if turn.role in SAID:
                before = turn.text
        yield Repeated(sql.NEW_WORDS, words)
        yield Repeated(sql.NEW_VECTOR, meanings)
        stored += len(words)
    if stored:
        first, last = _bounds(turn.created_at for turn in turns)
        yield Statement(sql.NEW_SESSION, (*_of(key), persona, title, first, last))
    return stored


def _columns(turn: Turn) -> tuple[str | int | None, ...]:
    edited_at_us = microseconds(turn.edited_at) if turn.edited_at else None
    return turn.run_id, turn.position, turn.role.value, turn.text, microseconds(turn.created_at), edited_at_us


def _bounds(times: Iterable[datetime]) -> tuple[int, int]:
    ordered = sorted(times)
    return microseconds(ordered[0]), microseconds(ordered[-1])


def _said_before(key: SessionKey, turn: Turn) -> Script[str]:
    rows = yield Statement(sql.SAID_BEFORE, (*_of(key), microseconds(turn.created_at), turn.run_id))
    return rows[0][0] if rows else ""


def _summary(key: SessionKey) -> Script[Summary]:
    rows = yield Statement(sql.SUMMARY, _of(key))
    if not rows:
        return Summary()
    [[text, made_by, version]] = rows
    return Summary(text, made_by, version=version)


def _persona(key: SessionKey) -> Script[str]:
    rows = yield Statement(sql.PERSONA, _of(key))
    return rows[0][0] if rows else DEFAULT_PERSONA


def _drop_summary(key: SessionKey) -> Script[None]:
    """What a summary says of a turn must not outlive it."""
    if (yield Statement(sql.DROP_SUMMARY, _of(key))):
        yield Statement(sql.UNCOVER, _of(key))
