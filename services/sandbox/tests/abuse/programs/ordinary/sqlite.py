"""Keeps a database in the workspace, with a journal, a rollback and a write-ahead log."""

import sqlite3

from probe import ok

for mode in ("DELETE", "WAL"):
    with sqlite3.connect(f"{mode}.db") as database:
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO notes (text) VALUES (?)", [("a",), ("b",)])
    assert database.execute("SELECT count(*) FROM notes").fetchone() == (2,)
    database.close()
ok("sqlite")
