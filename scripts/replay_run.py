#!/usr/bin/env python3
"""Drives a recorded run again, offline, with the answers of its journal, and shows the first difference.

    python scripts/replay_run.py run-0123… [--database data/pagi_audit.db]

The journal is the one that the planner writes: in PostgreSQL where PAGI_AUDIT_DATABASE_URL is set, else the file
PAGI_AUDIT_DB_PATH.

Exit status: 0 where every step is the same, 1 where one differs, 2 where there is no such run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from dev_env.interpreter import use_venv

use_venv()

from dev_mesh.environment import load_environment
from pagi_chassis.component import StartError
from pagi_planner.adapters.postgres_connection import PostgresServer
from pagi_planner.adapters.postgres_reader import PostgresReader
from pagi_planner.adapters.sqlite_tables import COLUMNS, event_of
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.state.events import Event
from pagi_planner.domain.time_travel.replay import Difference, replay


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_id")
    environment = load_environment(Path())  # as the planner sees it
    default = environment.get("PAGI_AUDIT_DB_PATH", default="data/pagi_audit.db")
    parser.add_argument("--database", type=Path, help=f"a journal in a file (default: {default})")
    options = parser.parse_args(arguments)
    url = "" if options.database else environment.get("PAGI_AUDIT_DATABASE_URL")
    try:
        run_id = options.run_id
        events = asyncio.run(fetched(url, run_id)) if url else read(options.database or Path(default), run_id)
        if not events:
            raise ValueError(f"there is no run {run_id!r}")
        difference = asyncio.run(replay(events))
    except (sqlite3.Error, ValueError) as error:
        print(f"replay_run: {'PostgreSQL' if url else options.database or default}: {error}", file=sys.stderr)
        return 2
    except (JournalError, StartError) as error:
        print(f"replay_run: {error}", file=sys.stderr)
        return 2
    if difference is None:
        print(f"{options.run_id}: {len(events)} events, every step is the same")
        return 0
    print(told(difference))
    return 1


def read(database: Path, run_id: str) -> list[Event]:
    """The run's events in a file; none where there is no such run.

    Raises:
        sqlite3.Error: The file cannot be read.
        ValueError: There is none.
    """
    if not database.is_file():
        raise ValueError("there is no such file; has the planner run, and is this its folder?")
    # Read-only: a planner may be at work on it.
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        sql = f"SELECT {COLUMNS} FROM audit_log WHERE run_id = ? ORDER BY seq"
        rows = connection.execute(sql, (run_id,)).fetchall()
    return [event_of(row) for row in rows]


async def fetched(url: str, run_id: str) -> Sequence[Event]:
    """The run's events in PostgreSQL; none where there is no such run.

    Raises:
        JournalError: The server cannot be reached or refuses.
        StartError: The driver is not installed.
    """
    server = PostgresServer(url, read_only=True)
    await server.start()
    try:
        return await PostgresReader(server).events(run_id)
    finally:
        await server.stop()


def told(difference: Difference) -> str:
    """The difference, for people."""
    lines = ["The replay leaves the record here:"]
    for name, event in (("recorded", difference.recorded), ("replayed", difference.replayed)):
        lines.append(f"  {name}: {f'{event.seq} {event.type}' if event else 'nothing more'}")
    for member in difference.members:
        for name, event in (("recorded", difference.recorded), ("replayed", difference.replayed)):
            assert event is not None, "both are there where members differ"
            lines.append(f"    {member}, {name}: {json.dumps(event.data.get(member), ensure_ascii=False)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
