"""Ids for tool calls where a provider gives none."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pagi_gateway.domain.model import Message


def fresh_ids(messages: Sequence[Message]) -> Iterator[str]:
    """Yields `call_1`, `call_2`, … without those that the conversation already uses.

    Counted instead of random, so that the same conversation gets the same answer.
    """
    used = {call.id for message in messages for call in message.tool_calls}
    return (name for name in (f"call_{number}" for number in count(1)) if name not in used)
