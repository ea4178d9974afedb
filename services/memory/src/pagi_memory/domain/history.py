"""What was said in a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.limits import (
    MAX_TURN_CHARS,
    MAX_TURNS_READ,
    MAX_TURNS_STORED,
    Defaults,
    checked_count,
    checked_id,
    checked_session_id,
    is_persona_name,
)
from pagi_memory.domain.model import DEFAULT_PERSONA, SessionKey, Turn
from pagi_memory.domain.ports import SessionStore


class History:
    """The Heart: turns by tenant and session."""

    def __init__(self, store: SessionStore, *, defaults: Defaults | None = None) -> None:
        self._store = store
        self._defaults = defaults or Defaults()

    async def newest(self, tenant: str, session_id: str, *, max_turns: int = 0) -> list[Turn]:
        """The newest turns of a session, oldest of them first; none for a session that has none.

        Args:
            tenant: Whose session; empty where there is one tenant.
            session_id: 1 to 200 characters, no path, no control characters.
            max_turns: At most this many, 1 to 1,000; 0: the default.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
        """
        key = SessionKey(tenant, checked_session_id(session_id))
        limit = checked_count(max_turns, "max_turns", default=self._defaults.max_turns, most=MAX_TURNS_READ)
        return await self._store.newest(key, limit)

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
        key = SessionKey(tenant, checked_session_id(session_id))
        name = persona or DEFAULT_PERSONA
        if not is_persona_name(name):
            raise InvalidArgumentError("persona may hold letters, digits, '-' and '_', at most 63.", field="persona")
        if not 1 <= len(turns) <= MAX_TURNS_STORED:
            raise InvalidArgumentError(
                f"{len(turns)} turns were sent; between 1 and {MAX_TURNS_STORED} are allowed.", field="turns"
            )
        for turn in turns:
            checked_id(turn.run_id, "run_id")
            if len(turn.text) > MAX_TURN_CHARS:
                raise InvalidArgumentError(
                    f"turns[{turn.position}].text has {len(turn.text)} characters; at most {MAX_TURN_CHARS} "
                    "are allowed.",
                    field=f"turns[{turn.position}].text",
                )
        return await self._store.append(key, name, _in_order(turns))


def _in_order(turns: Sequence[Turn]) -> list[Turn]:
    """Times never go back within a run, so that an order by time keeps the order in which things were said."""
    times = accumulate((turn.created_at for turn in turns), max)
    return [replace(turn, created_at=time) for turn, time in zip(turns, times, strict=True)]
