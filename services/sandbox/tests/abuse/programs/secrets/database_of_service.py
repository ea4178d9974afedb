"""Opens the database that holds every tenant's governance notes."""

import sqlite3

from probe import TARGET, attempt


def read():
    with sqlite3.connect(f"file:{TARGET['database']}?mode=ro", uri=True) as database:
        return database.execute("SELECT name FROM sqlite_master").fetchall()


attempt("the service's database", read)
