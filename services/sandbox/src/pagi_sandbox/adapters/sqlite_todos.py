"""To-do lists in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pagi_sandbox.adapters.sqlite_thread import SqliteThread
from pagi_sandbox.domain.todo_list import TodoItem, TodoListKey

# An item's number is its own for good: that of a removed one is not given again, so that a repeat of a call can never
# meet another item.
_TABLE = """
CREATE TABLE IF NOT EXISTS todo_items (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    item_text TEXT NOT NULL,
    item_state TEXT NOT NULL CHECK (item_state IN ('open', 'done', 'removed')),
    PRIMARY KEY (tenant, session_id, number)
)
"""
_OF_LIST = "tenant = ? AND session_id = ?"


class SqliteTodoStore:
    """A TodoStore and a component."""

    def __init__(self, path: Path) -> None:
        """The file and its directory are made at the start."""
        self._database = SqliteThread(path, _TABLE, name="todos")

    async def start(self) -> None:
        """Opens the database.

        Raises:
            StartError: it cannot be opened.
        """
        await self._database.start()

    async def stop(self) -> None:
        """Closes it after what was begun."""
        await self._database.stop()

    async def items(self, key: TodoListKey) -> Sequence[TodoItem]:
        """The list; see TodoStore."""
        return await self._database.call(_items, key)

    async def add(self, key: TodoListKey, texts: Sequence[str], most: int) -> bool:
        """Adds items; see TodoStore."""
        return await self._database.call(_add, key, texts, most)

    async def set_state(self, key: TodoListKey, number: int, state: str) -> bool:
        """Changes an item; see TodoStore."""
        return await self._database.call(_set_state, key, number, state)


def _items(connection: sqlite3.Connection, key: TodoListKey) -> Sequence[TodoItem]:
    rows = connection.execute(
        f"SELECT number, item_text, item_state FROM todo_items WHERE {_OF_LIST}"  # noqa: S608 a constant
        " AND item_state <> 'removed' ORDER BY number",
        (key.tenant, key.session_id),
    )
    return [TodoItem(number, text, state == "done") for number, text, state in rows.fetchall()]


def _add(connection: sqlite3.Connection, key: TodoListKey, texts: Sequence[str], most: int) -> bool:
    whose = key.tenant, key.session_id
    connection.execute("BEGIN IMMEDIATE")
    try:
        there = _items(connection, key)
        is_open = {item.text for item in there if not item.done}
        new = [text for text in dict.fromkeys(texts) if text not in is_open]
        fits = len(there) + len(new) <= most
        (last,) = connection.execute(
            f"SELECT COALESCE(MAX(number), 0) FROM todo_items WHERE {_OF_LIST}",  # noqa: S608 a constant
            whose,
        ).fetchone()
        rows = [(*whose, last + place, text) for place, text in enumerate(new, 1)] if fits else []
        connection.executemany(
            "INSERT INTO todo_items (tenant, session_id, number, item_text, item_state) VALUES (?, ?, ?, ?, 'open')",
            rows,
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return fits


def _set_state(connection: sqlite3.Connection, key: TodoListKey, number: int, state: str) -> bool:
    changed = connection.execute(
        f"UPDATE todo_items SET item_state = ? WHERE {_OF_LIST} AND number = ?"  # noqa: S608 a constant
        " AND (item_state <> 'removed' OR ? = 'removed')",
        (state, key.tenant, key.session_id, number, state),
    )
    return changed.rowcount == 1
