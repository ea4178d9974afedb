"""What people do with sessions: look at them, find in them, change, forget, carry elsewhere."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.clock import microseconds, utc_now
from pagi_memory.domain.errors import EmbeddingUnavailableError, UnknownSessionError, UnknownTurnError
from pagi_memory.domain.fusion import fuse
from pagi_memory.domain.limits import (
    MAX_TITLE_CHARS,
    checked_count,
    checked_id,
    checked_page_token,
    checked_persona,
    checked_query,
    checked_session_id,
    checked_tenant,
    checked_turn_text,
    first_that_fit,
    storable,
)
from pagi_memory.domain.model import Hit, SessionKey, Turn
from pagi_memory.domain.ports import SessionStore
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.session import (
    HeartStatistics,
    ImportReport,
    Session,
    SessionPage,
    SessionRecord,
    Summary,
    TurnHit,
)
from pagi_memory.domain.words import query_words

log = logging.getLogger(__name__)

MAX_LISTED = 200
MAX_FOUND = 100
# So many turns of a session are read at once when it is carried elsewhere.
_CARRIED_AT_ONCE = 200
# Of each kind of search, at least so many are joined.
_CANDIDATES = 50
# As measured best on conversations (docs/memory.md).
_LEXICAL_WEIGHT = 0.6
# What shares no word with the query must be at least this near to it.
_LEAST_SIMILARITY = 0.4


class Sessions:
    """The sessions of tenants. Every method takes the tenant and reaches nothing of another one."""

    def __init__(
        self,
        store: SessionStore,
        *,
        vectors: QueryVectors | None = None,
        model: ServingModel | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._vectors = vectors
        self._model = model
        self._now = now

    async def find(self, tenant: str, *, limit: int = 0, page_token: str = "", persona: str = "") -> SessionPage:
        """The sessions, the one last spoken in first.

        Args:
            tenant: Whose; empty where there is one tenant.
            limit: At most this many, 1 to 200; 0: 50.
            page_token: `next_token` of the page before.
            persona: Only those in which this one answered last; empty: all.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
        """
        wanted = checked_count(limit, "limit", default=50, most=MAX_LISTED)
        after = checked_page_token(page_token)
        who = checked_persona(persona) if persona else ""
        found = await self._store.sessions(checked_tenant(tenant), limit=wanted + 1, after=after, persona=who)
        page = found[:wanted]
        last = page[-1] if len(found) > wanted else None
        token = f"{microseconds(last.updated_at)}:{last.session_id}" if last else ""
        return SessionPage(page, token)

    async def get(self, tenant: str, session_id: str) -> tuple[Session, Summary]:
        """One session and its summary.

        Raises:
            UnknownSessionError: The tenant has none of this id.
        """
        key = _key(tenant, session_id)
        if (found := await self._store.session(key)) is None:
            raise UnknownSessionError(session_id)
        return found

    async def rename(self, tenant: str, session_id: str, title: str) -> Session:
        """Changes the title: 1 to 200 characters.

        Raises:
            InvalidArgumentError: It is empty or too long.
            UnknownSessionError: The tenant has none of this id.
        """
        key = _key(tenant, session_id)
        title = " ".join(storable(title).split())
        if not 1 <= len(title) <= MAX_TITLE_CHARS:
            raise InvalidArgumentError(
                f"title has {len(title)} characters; it must have 1 to {MAX_TITLE_CHARS}.", field="title"
            )
        if not await self._store.rename(key, title):
            raise UnknownSessionError(session_id)
        return (await self.get(tenant, session_id))[0]

    async def forget(self, tenant: str, session_id: str) -> int:
        """Forgets a session, its turns, its summary; says how many turns there were.

        Raises:
            UnknownSessionError: The tenant has none of this id.
        """
        if (forgotten := await self._store.forget_session(_key(tenant, session_id), self._now())) is None:
            raise UnknownSessionError(session_id)
        return forgotten

    async def edit_turn(self, tenant: str, session_id: str, run_id: str, position: int, text: str) -> Turn:
        """Changes what was said; the summary that told of it is made anew.

        Raises:
            InvalidArgumentError: The text is too long.
            UnknownTurnError: There is no such turn.
        """
        key, place = _key(tenant, session_id), _place(run_id, position)
        checked = checked_turn_text(text, "text")
        if (turn := await self._store.edit_turn(key, *place, checked, self._now())) is None:
            raise UnknownTurnError(session_id, run_id, position)
        return turn

    async def forget_turn(self, tenant: str, session_id: str, run_id: str, position: int) -> None:
        """Forgets one turn; the summary that told of it is made anew.

        Raises:
            UnknownTurnError: There is no such turn.
        """
        key, place = _key(tenant, session_id), _place(run_id, position)
        if not await self._store.forget_turn(key, *place, self._now()):
            raise UnknownTurnError(session_id, run_id, position)

    async def search(
        self, tenant: str, query: str, *, session_id: str = "", persona: str = "", limit: int = 0
    ) -> list[TurnHit]:
        """The turns that hold words of the query, and the requests that mean what it means, best first.

        Args:
            tenant: Whose; empty where there is one tenant.
            query: What is looked for, at most 32,768 characters; a date such as 2026-03-01 or a month finds turns too.
            session_id: Only in this session; empty: in all.
            persona: Only in sessions in which this one answered last; empty: in all.
            limit: At most this many, 1 to 100; 0: 10.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
        """
        wanted = checked_count(limit, "limit", default=10, most=MAX_FOUND)
        if session_id:
            checked_session_id(session_id)
        if persona:
            checked_persona(persona)
        query = checked_query(storable(query))
        if not query:
            return []
        checked_tenant(tenant)
        where = {"session_id": session_id, "persona": persona}
        words, most = query_words(query), max(wanted, _CANDIDATES)
        lexical = await self._store.search(tenant, words, **where, limit=most) if words else []
        found = _joined(await self._by_meaning(tenant, query, where, most), lexical)[:wanted]
        return first_that_fit(found, lambda hit: [hit.turn.text])

    async def _by_meaning(self, tenant: str, query: str, where: Mapping[str, str], limit: int) -> list[TurnHit]:
        if self._vectors is None or self._model is None:
            return []
        try:
            async with self._model.held():
                vector = await self._vectors.of(query)
                return await self._store.nearest(tenant, vector, self._model.identity, **where, limit=limit)
        except EmbeddingUnavailableError as error:
            log.warning("searching the history by words alone: %s", error)
            return []

    async def export(self, tenant: str, session_id: str = "") -> AsyncIterator[SessionRecord]:
        """Every session of the tenant, or one, each with all its turns in the order in which they were said.

        A session of many turns comes as several records. What is said meanwhile may be in it or not.

        Raises:
            UnknownSessionError: The tenant has none of this id.
        """
        if session_id:
            async for record in self._records(tenant, (await self.get(tenant, session_id))[0]):
                yield record
            return
        checked_tenant(tenant)
        last = ""
        while page := await self._store.sessions_by_id(tenant, after=last, limit=MAX_LISTED):
            for session in page:
                async for record in self._records(tenant, session):
                    yield record
            last = page[-1].session_id

    async def _records(self, tenant: str, session: Session) -> AsyncIterator[SessionRecord]:
        key = SessionKey(tenant, session.session_id)
        last: Turn | None = None
        while True:
            turns = await self._store.turns(key, after=last, limit=_CARRIED_AT_ONCE)
            if turns or last is None:
                yield SessionRecord(session.session_id, session.persona, session.title, turns)
            if len(turns) < _CARRIED_AT_ONCE:
                return
            last = turns[-1]

    async def take_in(self, tenant: str, records: Sequence[SessionRecord]) -> ImportReport:
        """Adds sessions that come from elsewhere, all or none; turns that are there already stay as they are.

        Also brings back what was forgotten: who imports, wants it.

        Raises:
            InvalidArgumentError: An id or a text is outside of its bounds.
        """
        checked_tenant(tenant)
        for record in records:
            checked_session_id(record.session_id)
            for turn in record.turns:
                _place(turn.run_id, turn.position)
        stored = await self._store.take_in(tenant, records)
        turns = sum(len(record.turns) for record in records)
        return ImportReport(len(records), stored, turns - stored)

    async def statistics(self, tenant: str) -> HeartStatistics:
        """How much the tenant has said."""
        return await self._store.statistics(checked_tenant(tenant))


def _joined(dense: Sequence[TurnHit], lexical: Sequence[TurnHit]) -> list[TurnHit]:
    found = {hit.place: hit for hit in [*dense, *lexical]}
    worded = {hit.place for hit in lexical}
    near = [Hit(hit.place, hit.score) for hit in dense if hit.place in worded or hit.score >= _LEAST_SIMILARITY]
    ranked = fuse(near, [Hit(hit.place, hit.score) for hit in lexical], lexical_weight=_LEXICAL_WEIGHT)
    return [replace(found[hit.passage_id], score=hit.score, parts=hit) for hit in ranked]


def _key(tenant: str, session_id: str) -> SessionKey:
    return SessionKey(checked_tenant(tenant), checked_session_id(session_id))


def _place(run_id: str, position: int) -> tuple[str, int]:
    if not 0 <= position < 2**31:
        raise InvalidArgumentError(f"position is {position}; it must be between 0 and {2**31 - 1}.", field="position")
    return checked_id(run_id, "run_id"), position
