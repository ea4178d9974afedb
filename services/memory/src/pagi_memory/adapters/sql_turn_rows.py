"""Rows of sessions and turns, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from pagi_memory.domain.model import Turn, TurnRole
from pagi_memory.domain.session import Session, StoredTurn

# In the order that `stored_turn` and `turn_of` read.
TURN_COLUMNS = "number, role, body, run_id, position, created_at_us, edited_at_us"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@overload
def time_of(microseconds: int) -> datetime: ...
@overload
def time_of(microseconds: None) -> None: ...
def time_of(microseconds: int | None) -> datetime | None:
    """The time that a column holds."""
    return None if microseconds is None else _EPOCH + microseconds * _MICROSECOND


def turn_of(row: Sequence[Any]) -> Turn:
    """A turn from `TURN_COLUMNS`."""
    _, role, body, run_id, position, created_at_us, edited_at_us = row
    return Turn(TurnRole(role), body, run_id, position, time_of(created_at_us), time_of(edited_at_us))


def stored_turn(row: Sequence[Any]) -> StoredTurn:
    """A turn with its number."""
    return StoredTurn(row[0], turn_of(row))


def session_of(row: Sequence[Any]) -> Session:
    """A session with the count of its turns."""
    session_id, title, persona, created_at_us, updated_at_us, turns = row
    return Session(session_id, title, persona, turns, time_of(created_at_us), time_of(updated_at_us))
