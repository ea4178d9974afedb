"""Stores that live as long as the process: for tests, and for a domain that runs alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from pagi_memory.domain.clock import microseconds
from pagi_memory.domain.model import DEFAULT_PERSONA, SessionKey, Turn, TurnRole
from pagi_memory.domain.session import (
    HeartStatistics,
    Retention,
    SaidVector,
    Session,
    SessionRecord,
    StoredTurn,
    Summary,
    TurnHit,
    Window,
    title_of,
)

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector


@dataclass
class _Kept:
    """A session in `InMemorySessionStore`; places are run and position."""

    title: str
    persona: str = DEFAULT_PERSONA
    turns: dict[tuple[str, int], StoredTurn] = field(default_factory=dict)
    covered: set[int] = field(default_factory=set)
    vectors: dict[tuple[str, int], SaidVector] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)

    @property
    def ordered(self) -> list[StoredTurn]:
        return sorted(self.turns.values(), key=lambda each: _said(each.turn))

    def session(self, session_id: str) -> Session:
        times = [each.turn.created_at for each in self.ordered] or [_EPOCH]
        return Session(session_id, self.title, self.persona, len(self.turns), times[0], times[-1])

    def drop_summary(self) -> None:
        self.covered.clear()
        self.summary = Summary(version=self.summary.version + 1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _said(turn: Turn) -> tuple[datetime, str, int]:
    return turn.created_at, turn.run_id, turn.position


class InMemorySessionStore:
    """`SessionStore` in a dict; a search looks for whole words."""

    def __init__(self) -> None:
        self._kept: dict[SessionKey, _Kept] = {}
        self._forgotten: set[tuple[SessionKey, str, int]] = set()
        self._numbers = count(1)

    async def append(
        self, key: SessionKey, persona: str, turns: Sequence[Turn], vectors: Sequence[SaidVector] = ()
    ) -> int:
        """See `SessionStore.append`."""
        lasting = [t for t in turns if not {(key, t.run_id, t.position), (key, t.run_id, -1)} & self._forgotten]
        before = set(self._kept[key].turns) if key in self._kept else set()
        stored = self._add(key, persona, title_of(turns), lasting)
        for said in vectors if stored else ():
            if (said.run_id, said.position) not in before:
                self._kept[key].vectors[said.run_id, said.position] = said
        return stored

    def _add(self, key: SessionKey, persona: str, title: str, turns: Sequence[Turn]) -> int:
        known = self._kept[key].turns if key in self._kept else {}
        first = {(turn.run_id, turn.position): turn for turn in reversed(turns)}
        new = [
            turn
            for turn in turns
            if first[turn.run_id, turn.position] is turn and (turn.run_id, turn.position) not in known
        ]
        if new:
            kept = self._kept.setdefault(key, _Kept(title, persona))
            kept.turns |= {(turn.run_id, turn.position): StoredTurn(next(self._numbers), turn) for turn in new}
            kept.persona = persona if kept.ordered[-1].turn in new else kept.persona
        return len(new)

    async def newest(self, key: SessionKey, limit: int, *, before: Turn | None = None) -> list[Turn]:
        """See `SessionStore.newest`."""
        found = [each.turn for each in self._ordered(key)]
        return [turn for turn in found if before is None or _said(turn) < _said(before)][-limit:]

    async def turns(self, key: SessionKey, *, after: Turn | None = None, limit: int) -> list[Turn]:
        """See `SessionStore.turns`."""
        found = (each.turn for each in self._ordered(key))
        return [turn for turn in found if after is None or _said(turn) > _said(after)][:limit]

    async def window(self, key: SessionKey, limit: int) -> Window:
        """See `SessionStore.window`."""
        kept = self._kept.get(key, _Kept(""))
        pending = [each for each in kept.ordered if each.number not in kept.covered]
        return Window(replace(kept.summary, turns=0), kept.ordered[-limit:], pending[:200])

    async def roll(self, key: SessionKey, summary: Summary, numbers: Sequence[int]) -> bool:
        """See `SessionStore.roll`."""
        kept = self._kept.get(key)
        if kept is None or kept.summary.version != summary.version:
            return False
        kept.covered |= set(numbers)
        kept.summary = replace(summary, turns=len(kept.covered), version=summary.version + 1)
        return True

    async def sessions(
        self, tenant: str, *, limit: int, after: tuple[int, str] | None = None, persona: str = ""
    ) -> list[Session]:
        """See `SessionStore.sessions`."""
        found = [kept.session(key.session_id) for key, kept in self._of(tenant) if persona in ("", kept.persona)]
        placed = sorted(((microseconds(s.updated_at), s.session_id), s) for s in found)
        return [session for place, session in reversed(placed) if after is None or place < after][:limit]

    async def sessions_by_id(self, tenant: str, *, after: str = "", limit: int) -> list[Session]:
        """See `SessionStore.sessions_by_id`."""
        found = sorted((key.session_id, kept) for key, kept in self._of(tenant) if key.session_id > after)
        return [kept.session(session_id) for session_id, kept in found[:limit]]

    async def session(self, key: SessionKey) -> tuple[Session, Summary] | None:
        """See `SessionStore.session`."""
        kept = self._kept.get(key)
        return (kept.session(key.session_id), kept.summary) if kept else None

    async def rename(self, key: SessionKey, title: str) -> bool:
        """See `SessionStore.rename`."""
        if kept := self._kept.get(key):
            kept.title = title
        return kept is not None

    async def forget_session(self, key: SessionKey, at: datetime) -> int | None:
        """See `SessionStore.forget_session`."""
        if (kept := self._kept.pop(key, None)) is None:
            return None
        self._forgotten |= {(key, run_id, -1) for run_id, _ in kept.turns}
        return len(kept.turns)

    async def edit_turn(self, key: SessionKey, run_id: str, position: int, text: str, at: datetime) -> Turn | None:
        """See `SessionStore.edit_turn`."""
        kept = self._kept.get(key)
        if kept is None or (run_id, position) not in kept.turns:
            return None
        kept.drop_summary()
        kept.vectors.pop((run_id, position), None)
        before = kept.turns[run_id, position]
        kept.turns[run_id, position] = after = replace(before, turn=replace(before.turn, text=text, edited_at=at))
        return after.turn

    async def forget_turn(self, key: SessionKey, run_id: str, position: int, at: datetime) -> bool:
        """See `SessionStore.forget_turn`."""
        kept = self._kept.get(key)
        if kept is None or kept.turns.pop((run_id, position), None) is None:
            return False
        kept.drop_summary()
        self._forgotten.add((key, run_id, position))
        return True

    async def search(
        self, tenant: str, words: Sequence[str], *, session_id: str = "", persona: str = "", limit: int
    ) -> list[TurnHit]:
        """See `SessionStore.search`; the score is how many of the words are there."""
        hits = []
        for key, kept in self._of(tenant):
            before = ""
            for turn in (each.turn for each in kept.ordered):
                text = f"{turn.created_at:%Y-%m-%d %A %B} {before} {turn.text}".casefold()
                found = sorted(set(re.findall(r"\w+", text)) & set(words))
                if found and session_id in ("", key.session_id) and persona in ("", kept.persona):
                    hits.append(TurnHit(key.session_id, kept.title, turn, float(len(found)), found))
                before = turn.text if turn.role in (TurnRole.USER, TurnRole.ASSISTANT) else before
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def nearest(
        self, tenant: str, vector: Vector, model: str, *, session_id: str = "", persona: str = "", limit: int
    ) -> list[TurnHit]:
        """See `SessionStore.nearest`."""
        hits = [
            TurnHit(key.session_id, kept.title, kept.turns[place].turn, float(vector @ said.vector), [])
            for key, kept in self._of(tenant)
            for place, said in kept.vectors.items()
            if said.model == model
            and place in kept.turns
            and session_id in ("", key.session_id)
            and persona in ("", kept.persona)
        ]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def take_in(self, tenant: str, records: Sequence[SessionRecord]) -> int:
        """See `SessionStore.take_in`."""
        stored = 0
        for record in records:
            key = SessionKey(tenant, record.session_id)
            self._forgotten -= {(key, t.run_id, place) for t in record.turns for place in (t.position, -1)}
            known = self._kept[key].persona if key in self._kept else DEFAULT_PERSONA
            stored += self._add(key, record.persona or known, record.title or title_of(record.turns), record.turns)
        return stored

    async def statistics(self, tenant: str) -> HeartStatistics:
        """See `SessionStore.statistics`."""
        kept = [each for _, each in self._of(tenant)]
        turns = [stored.turn for each in kept for stored in each.turns.values()]
        times: list[datetime | None] = [*sorted(turn.created_at for turn in turns)] or [None]
        characters, covered = sum(len(turn.text) for turn in turns), sum(len(each.covered) for each in kept)
        return HeartStatistics(len(kept), len(turns), characters, covered, times[0], times[-1])

    async def expire(self, retention: Retention, now: datetime) -> int:
        """See `SessionStore.expire`."""
        doomed: set[SessionKey] = set()
        for tenant in {key.tenant for key in self._kept}:
            newest = await self.sessions(tenant, limit=len(self._kept))
            old = [s for s in newest if retention.days and s.updated_at < now - timedelta(days=retention.days)]
            many = newest[retention.sessions :] if retention.sessions else []
            doomed |= {SessionKey(tenant, session.session_id) for session in [*old, *many]}
        for key in doomed:
            del self._kept[key]
        for kept in self._kept.values():
            gone = kept.ordered[: -retention.turns] if retention.turns else []
            for turn in (each.turn for each in gone):
                del kept.turns[turn.run_id, turn.position]
        return len(doomed)

    def _of(self, tenant: str) -> list[tuple[SessionKey, _Kept]]:
        return [(key, kept) for key, kept in self._kept.items() if key.tenant == tenant]

    def _ordered(self, key: SessionKey) -> list[StoredTurn]:
        return self._kept[key].ordered if key in self._kept else []
