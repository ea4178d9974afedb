"""A session's to-do list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TodoListKey:
    """Whose list it is."""

    tenant: str
    session_id: str


@dataclass(frozen=True, slots=True)
class TodoItem:
    """One item; its number is its own for good."""

    number: int
    text: str
    done: bool


class TodoStore(Protocol):
    """Keeps to-do lists."""

    async def items(self, key: TodoListKey) -> Sequence[TodoItem]:
        """The items that were not removed, oldest first."""

    async def add(self, key: TodoListKey, texts: Sequence[str], most: int) -> bool:
        """Adds those texts that no open item has.

        Returns:
            False where the list would then have more than `most` items: nothing was added.
        """

    async def set_state(self, key: TodoListKey, number: int, state: str) -> bool:
        """Makes an item "open", "done" or "removed"; a removed one can only be removed again.

        Returns:
            False where there is no such item.
        """
