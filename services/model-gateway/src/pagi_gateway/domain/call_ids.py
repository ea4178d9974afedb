"""Ids for tool calls where a provider gives none."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pagi_gateway.domain.model import Message


class OwnIds:
    """The ids of one answer's calls: those that the provider gave, but no id for two calls, and none missing.

    Results name the call that they answer, so that a caller could not go on with two calls of one id.

    Args:
        fresh: Names a call that has no id of its own.
    """

    def __init__(self, fresh: Iterator[str]) -> None:
        self._fresh = fresh
        self._taken: set[str] = set()

    def of(self, given: str | None) -> str:
        """The id of the next call."""
        own = given or ""
        while not own or own in self._taken:
            own = next(self._fresh)
        self._taken.add(own)
        return own


def fresh_ids(messages: Sequence[Message]) -> Iterator[str]:
    """Yields `call_1`, `call_2`, … without those that the conversation already uses.

    Counted instead of random, so that the same conversation gets the same answer.
    """
    used = {call.id for message in messages for call in message.tool_calls}
    return (name for name in (f"call_{number}" for number in count(1)) if name not in used)
