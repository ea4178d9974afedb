"""What was said in a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.condensing import Extract
from pagi_memory.domain.limits import (
    MAX_HISTORY_TOKENS,
    MAX_TURNS_READ,
    MAX_TURNS_STORED,
    Defaults,
    checked_count,
    checked_id,
    checked_persona,
    checked_session_id,
    checked_tenant,
    checked_turn_text,
    first_that_fit,
)
from pagi_memory.domain.model import SessionKey, Turn, TurnRole
from pagi_memory.domain.ports import SessionStore
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.session import Recollection, SaidVector
from pagi_memory.domain.summaries import Summaries

_READ_AT_ONCE = 100


class History:
    """The Heart: turns by tenant and session."""

    def __init__(
        self,
        store: SessionStore,
        *,
        defaults: Defaults | None = None,
        summaries: Summaries | None = None,
        vectors: QueryVectors | None = None,
    ) -> None:
        self._store = store
        self._vectors = vectors
        self._defaults = defaults or Defaults()
        self._summaries = summaries or Summaries(store, Extract(), defaults=self._defaults)

    async def newest(self, tenant: str, session_id: str, *, max_turns: int = 0) -> list[Turn]:
        """The newest turns of a session that fit into one answer, oldest of them first; none where there are none.

        Args:
            tenant: Whose session; empty where there is one tenant.
            session_id: 1 to 200 characters, no path, no control characters.
            max_turns: At most this many, 1 to 1,000; 0: the default.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
        """
        key = SessionKey(checked_tenant(tenant), checked_session_id(session_id))
        limit = checked_count(max_turns, "max_turns", default=self._defaults.max_turns, most=MAX_TURNS_READ)
        found: list[Turn] = []
        # Some at once: a thousand turns may be a thousand megabytes.
        while more := await self._store.newest(
            key, min(limit - len(found), _READ_AT_ONCE), before=found[-1] if found else None
        ):
            found += reversed(more)
            given = first_that_fit(found, lambda turn: [turn.text])
            if len(given) < len(found) or len(found) >= limit or len(more) < _READ_AT_ONCE:
                return given[::-1]
        return found[::-1]

    async def recollect(self, tenant: str, session_id: str, *, max_turns: int = 0, max_tokens: int = 0) -> Recollection:
        """What a run is told of its session: the newest turns that fit, and a summary of those before them.

        Args:
            tenant: Whose session; empty where there is one tenant.
            session_id: 1 to 200 characters, no path, no control characters.
            max_turns: At most this many, 1 to 1,000; 0: the default.
            max_tokens: Of all turns together, by `estimate_tokens`, 1 to 1,000,000; 0: the default.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
        """
        key = SessionKey(checked_tenant(tenant), checked_session_id(session_id))
        defaults = self._defaults
        return await self._summaries.recollect(
            key,
            max_turns=checked_count(max_turns, "max_turns", default=defaults.max_turns, most=MAX_TURNS_READ),
            max_tokens=checked_count(
                max_tokens, "max_history_tokens", default=defaults.max_history_tokens, most=MAX_HISTORY_TOKENS
            ),
        )

    async def append(self, tenant: str, session_id: str, *, persona: str, turns: Sequence[Turn]) -> int:
        """Adds a run's turns and says how many were new: 0 where all of them were stored before.

        Args:
            tenant: Whose session; empty where there is one tenant.
            session_id: 1 to 200 characters, no path, no control characters.
            persona: Who answered; empty: the default persona. It need not exist any more.
            turns: 1 to 1,000 turns of one run, in order.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
        """
        key = SessionKey(checked_tenant(tenant), checked_session_id(session_id))
        name = checked_persona(persona)
        if not 1 <= len(turns) <= MAX_TURNS_STORED:
            raise InvalidArgumentError(
                f"{len(turns)} turns were sent; between 1 and {MAX_TURNS_STORED} are allowed.", field="turns"
            )
        for run_id in {turn.run_id for turn in turns}:
            checked_id(run_id, "run_id")
        checked = [_checked(turn) for turn in turns]
        stored = await self._store.append(key, name, _in_order(checked), self._known(checked))
        if stored:
            self._summaries.added(key, checked)
        return stored

    def _known(self, turns: Sequence[Turn]) -> list[SaidVector]:
        """What the requests among the turns mean, where that is known: a run asked for its context with the same words.

        Nothing is embedded for it: that would cost more than all else that memory does for a run.
        """
        if self._vectors is None:
            return []
        requests = [(turn, self._vectors.known(turn.text.strip())) for turn in turns if turn.role is TurnRole.USER]
        return [SaidVector(turn.run_id, turn.position, *found) for turn, found in requests if found]


def _checked(turn: Turn) -> Turn:
    text = checked_turn_text(turn.text, f"turns[{turn.position}].text")
    return turn if text == turn.text else replace(turn, text=text)


def _in_order(turns: Sequence[Turn]) -> list[Turn]:
    """Times never go back within a run, so that an order by time keeps the order in which things were said."""
    times = accumulate((turn.created_at for turn in turns), max)
    return [
        turn if turn.created_at == time else replace(turn, created_at=time)
        for turn, time in zip(turns, times, strict=True)
    ]
