"""To-do lists in SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pagi_sandbox.adapters.sqlite_thread import SqliteThread
from pagi_sandbox.domain.todo_list import TodoItem, TodoListKey

# An item's number is its own for good: that of a removed one is not given again, so that a repeat of a call can never
# meet another item.
_TABLES = """
CREATE TABLE IF NOT EXISTS todo_items (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    item_text TEXT NOT NULL,
    item_state TEXT NOT NULL CHECK (item_state IN ('open', 'done', 'removed')),
    PRIMARY KEY (tenant, session_id, number)
);
CREATE TABLE IF NOT EXISTS todo_lists (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    used_at REAL NOT NULL,
    PRIMARY KEY (tenant, session_id)
);
CREATE INDEX IF NOT EXISTS todo_lists_by_use ON todo_lists (used_at);
-- Of a version that did not note it: they count as used now.
INSERT INTO todo_lists (tenant, session_id, used_at)
    SELECT DISTINCT tenant, session_id, CAST(strftime('%s', 'now') AS REAL) FROM todo_items WHERE true
    ON CONFLICT DO NOTHING;
"""
# Not with every look: a list that is read is written at most once an hour.
_USED = "UPDATE todo_lists SET used_at = ? WHERE tenant = ? AND session_id = ? AND used_at < ? - 3600"
_MADE = (
    "INSERT INTO todo_lists (tenant, session_id, used_at) VALUES (?, ?, ?)"
    " ON CONFLICT (tenant, session_id) DO UPDATE SET used_at = excluded.used_at"
)
_UNUSED = "SELECT tenant, session_id FROM todo_lists WHERE used_at < ? LIMIT 100"
_OF_LIST = "tenant = ? AND session_id = ?"


class SqliteTodoStore:
    """A TodoStore and a component."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        """The file and its directory are made at the start. `now`: seconds since 1970."""
        self._database = SqliteThread(path, _TABLES, name="todos")
        self._now = now

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
        return await self._database.call(_seen, key, self._now())

    async def add(self, key: TodoListKey, texts: Sequence[str], most: int) -> bool:
        """Adds items; see TodoStore."""
        return await self._database.call(_add, key, texts, most, self._now())

    async def set_state(self, key: TodoListKey, number: int, state: str) -> bool:
        """Changes an item; see TodoStore."""
        return await self._database.call(_set_state, key, number, state, self._now())

    async def forget_unused(self, moment: float) -> int:
        """Forgets the lists that nobody has used since (seconds since 1970); says how many."""
        forgotten = 0
        # Some at once: others use theirs in between.
        while some := await self._database.call(_forget_unused, moment):
            forgotten += some
        return forgotten


def _items(connection: sqlite3.Connection, key: TodoListKey) -> Sequence[TodoItem]:
    rows = connection.execute(
        f"SELECT number, item_text, item_state FROM todo_items WHERE {_OF_LIST}"  # noqa: S608 a constant
        " AND item_state <> 'removed' ORDER BY number",
        (key.tenant, key.session_id),
    )
    return [TodoItem(number, text, state == "done") for number, text, state in rows.fetchall()]


def _seen(connection: sqlite3.Connection, key: TodoListKey, now: float) -> Sequence[TodoItem]:
    connection.execute(_USED, (now, key.tenant, key.session_id, now))
    return _items(connection, key)


def _add(connection: sqlite3.Connection, key: TodoListKey, texts: Sequence[str], most: int, now: float) -> bool:
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
        if rows:
            connection.execute(_MADE, (*whose, now))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return fits


def _set_state(connection: sqlite3.Connection, key: TodoListKey, number: int, state: str, now: float) -> bool:
    connection.execute(_USED, (now, key.tenant, key.session_id, now))
    changed = connection.execute(
        f"UPDATE todo_items SET item_state = ? WHERE {_OF_LIST} AND number = ?"  # noqa: S608 a constant
        " AND (item_state <> 'removed' OR ? = 'removed')",
        (state, key.tenant, key.session_id, number, state),
    )
    return changed.rowcount == 1


def _forget_unused(connection: sqlite3.Connection, moment: float) -> int:
    connection.execute("BEGIN IMMEDIATE")
    try:
        lists = connection.execute(_UNUSED, (moment,)).fetchall()
        for table in ("todo_items", "todo_lists"):
            connection.executemany(f"DELETE FROM {table} WHERE {_OF_LIST}", lists)  # noqa: S608 constants
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return len(lists)
