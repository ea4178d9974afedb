#!/usr/bin/env python3
"""Prints what the audit log holds for a trace id, a run id or a session id; reads only.

Bare metal:  python scripts/inspect_audit.py <id>
Compose:     docker compose run --rm audit-inspector <id>

The log is the one that the planner writes: in PostgreSQL where PAGI_AUDIT_DATABASE_URL is set, for which the planner
has to be installed; else the file PAGI_AUDIT_DB_PATH, with the standard library only, so that it runs wherever the
file is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

DEFAULT_PATH = "data/pagi_audit.db"
DATA_WIDTH = 160
BY_ID = """
SELECT seq, timestamp, event_type, trace_id, session_id, run_id, data FROM audit_log
WHERE trace_id = :id OR run_id = :id OR session_id = :id ORDER BY id
"""
LATEST = """
SELECT started.timestamp, started.trace_id, started.session_id, started.run_id,
       coalesce((SELECT ended.event_type FROM audit_log ended WHERE ended.run_id = started.run_id
                 AND ended.event_type IN ('PLAN_END', 'PLAN_ERROR', 'PLAN_CANCELLED')), 'running')
FROM audit_log started WHERE started.event_type = 'PLAN_START' ORDER BY started.id DESC LIMIT :limit
"""


# How a run ended, by its status in PostgreSQL; all others have an answer, whole or partial.
ENDS = {"running": "running", "waiting_approval": "running", "failed": "PLAN_ERROR", "cancelled": "PLAN_CANCELLED"}


class InspectionError(Exception):
    """The audit log cannot be read; the text says why."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; exit status 1 where nothing was found, 2 where nothing could be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("id", nargs="?", help="a trace, run or session id; without one the latest runs are listed")
    parser.add_argument("--db", type=Path, default=None, help=f"a file; default: PAGI_AUDIT_DB_PATH, or {DEFAULT_PATH}")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, data in full")
    parser.add_argument("--limit", type=int, default=20, help="how many runs to list (default: 20)")
    options = parser.parse_args(arguments)
    path = options.db or Path(_variable("PAGI_AUDIT_DB_PATH") or DEFAULT_PATH)
    url = "" if options.db else _variable("PAGI_AUDIT_DATABASE_URL")
    try:
        rows = asyncio.run(_fetch(url, options.id, options.limit)) if url else _read(path, options.id, options.limit)
    except (InspectionError, sqlite3.Error) as error:
        print(f"inspect_audit: {error}", file=sys.stderr)
        return 2
    if options.id:
        return 0 if _print_events(rows, options.id, options.json) else 1
    return 0 if _print_runs(rows) else 1


def _variable(name: str) -> str:
    """As the planner sees it: from the environment, then from `.env`; alone in a container from the environment."""
    try:
        from dev_mesh.environment import load_environment
    except ImportError:
        return os.environ.get(name, "")
    return load_environment(Path()).get(name)


async def _fetch(url: str, wanted: str | None, limit: int) -> list[Sequence[Any]]:
    """The rows of an id, or of the latest runs, from PostgreSQL."""
    try:
        # Only here: a file is read without the planner installed.
        from pagi_chassis.component import StartError
        from pagi_planner.adapters.postgres_connection import PostgresServer
        from pagi_planner.adapters.postgres_reader import PostgresReader
        from pagi_planner.domain.errors import JournalError
    except ImportError as error:
        raise InspectionError(f"PAGI_AUDIT_DATABASE_URL is set, and the planner is not installed: {error}") from error
    server = PostgresServer(url, read_only=True)
    try:
        await server.start()
        reader = PostgresReader(server)
        if wanted:
            return [
                (
                    each.seq,
                    each.timestamp.isoformat(),
                    each.type.value,
                    each.trace_id,
                    each.session_id,
                    each.run_id,
                    json.dumps(each.data, ensure_ascii=False),
                )
                for each in await reader.found(wanted)
            ]
        return [
            (run.started_at.isoformat(), run.trace_id, run.session_id, run.run_id, ENDS.get(run.status, "PLAN_END"))
            for run in await reader.runs(limit=limit)
        ]
    except (JournalError, StartError) as error:
        raise InspectionError(str(error)) from error
    finally:
        await server.stop()


def _read(path: Path, wanted: str | None, limit: int) -> list[Sequence[Any]]:
    """The same from a file."""
    with closing(_open(path)) as database:
        return database.execute(*((BY_ID, {"id": wanted}) if wanted else (LATEST, {"limit": limit}))).fetchall()


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise InspectionError(f"there is no {path}: has the planner run, and is this its folder?")
    address = f"{path.absolute().as_uri()}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=5)
    try:
        database.execute("SELECT 1 FROM audit_log LIMIT 1")
    except sqlite3.OperationalError:
        database.close()
        # On a read-only mount SQLite cannot make the files beside the database. Where there is no log of writes
        # nobody has it open either, and it can be read as it lies.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        database = sqlite3.connect(f"{address}&immutable=1", uri=True)
    return database


def _print_events(rows: Iterable[Sequence[Any]], wanted: str, as_json: bool) -> bool:
    lines = list(_json_lines(rows) if as_json else _text_lines(rows))
    if not lines:
        print(f"no rows for {wanted}", file=sys.stderr)
    for line in lines:
        print(line)
    return bool(lines)


def _json_lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    for seq, timestamp, event_type, trace_id, session_id, run_id, data in rows:
        yield json.dumps(
            {
                "seq": seq,
                "timestamp": timestamp,
                "event_type": event_type,
                "trace_id": trace_id,
                "session_id": session_id,
                "run_id": run_id,
                "data": json.loads(data),
            },
            ensure_ascii=False,
        )


def _text_lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    run = ""
    for seq, timestamp, event_type, trace_id, session_id, run_id, data in rows:
        if run_id != run:
            run = run_id
            yield f"run {run_id}  session {session_id}  trace {trace_id}"
        short = data if len(data) <= DATA_WIDTH else f"{data[: DATA_WIDTH - 1]}…"
        yield f"  {seq:>4}  {timestamp}  {event_type:<20}  {short}"


def _print_runs(rows: Sequence[Sequence[Any]]) -> bool:
    for timestamp, trace_id, session_id, run_id, state in rows:
        print(f"{timestamp}  {state:<14}  run {run_id}  session {session_id}  trace {trace_id}")
    return bool(rows)


if __name__ == "__main__":
    raise SystemExit(main())
