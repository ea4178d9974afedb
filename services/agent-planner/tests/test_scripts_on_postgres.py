"""The scripts that show a journal to people, on one in PostgreSQL: the same as on a file, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from pagi_planner import Agent, RunRequest
from pagi_planner.adapters.postgres_connection import PostgresServer
from pagi_planner.adapters.postgres_journal import PostgresJournal
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.testing import RecordingTools, ScriptedModel, SteppingClock, call, calling, saying

SCRIPTS = Path(__file__).parents[3] / "scripts"


@asynccontextmanager
async def opened(journal) -> AsyncIterator[None]:
    await journal.start()
    try:
        yield
    finally:
        await journal.stop()


async def run(journal) -> None:
    tools = RecordingTools({"add": lambda x: ToolOutcome("ok", x)})
    model = ScriptedModel(calling(call("add", {"n": 1}, "c")), saying("eins ✓"))
    agent = Agent(model, tools=tools, journal=journal, clock=SteppingClock())
    await agent.run(RunRequest("1?", "s"), run_id="r", trace_id="t")


def script(name: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    environment = {"PATH": os.environ["PATH"], "PAGI_AUDIT_DB_PATH": "nowhere.db", **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
async def url(postgres_url: str) -> str:
    journal = PostgresJournal(postgres_url)
    async with opened(journal):
        await run(journal)
    return postgres_url


async def test_the_inspector_shows_what_it_shows_of_a_file(url, tmp_path):
    file = SqliteJournal(tmp_path / "audit.db")
    async with opened(file):
        await run(file)
    for asked in ([], ["--json", "t"]):
        # A file that is named goes before the variable.
        of_file = script("inspect_audit.py", *asked, "--db", str(tmp_path / "audit.db"), PAGI_AUDIT_DATABASE_URL="nix")
        shown = script("inspect_audit.py", *asked, PAGI_AUDIT_DATABASE_URL=url)
        assert shown == of_file
        assert shown[0] == 0
    assert script("inspect_audit.py", "--json", "s", PAGI_AUDIT_DATABASE_URL=url) == shown
    assert script("inspect_audit.py", "--json", "r", PAGI_AUDIT_DATABASE_URL=url) == shown
    rows = [json.loads(line) for line in shown[1].splitlines()]
    assert [row["seq"] for row in rows] == list(range(1, 11))
    assert rows[-1]["data"]["result"] == "eins ✓"
    assert script("inspect_audit.py", "nix", PAGI_AUDIT_DATABASE_URL=url)[0] == 1


async def test_a_run_is_replayed(url):
    assert script("replay_run.py", "r", PAGI_AUDIT_DATABASE_URL=url)[:2] == (
        0,
        "r: 10 events, every step is the same\n",
    )
    status, _, said = script("replay_run.py", "nix", PAGI_AUDIT_DATABASE_URL=url)
    assert (status, said) == (2, "replay_run: PostgreSQL: there is no run 'nix'\n")
    connection = await asyncpg.connect(url)
    try:
        sql = "UPDATE audit_log SET data = jsonb_set(data::jsonb, '{observation}', '\"x\"')::json WHERE event_type = $1"
        await connection.execute(sql, "TOOL_RESULT")
    finally:
        await connection.close()
    status, out, _ = script("replay_run.py", "r", PAGI_AUDIT_DATABASE_URL=url)
    assert (status, "observation, recorded" in out) == (1, True)


async def test_a_database_that_is_no_journal_stays_as_it_is_and_one_that_is_away_is_named(postgres_url):
    secret = postgres_url.replace("pagi@", "pagi:geheim@")
    for name in ("inspect_audit.py", "replay_run.py"):
        status, _, said = script(name, "r", PAGI_AUDIT_DATABASE_URL=secret)
        assert (status, "audit_log" in said, "geheim" in said, "Traceback" in said) == (2, True, False, False)
    status, _, said = script("inspect_audit.py", PAGI_AUDIT_DATABASE_URL="postgresql://pagi:geheim@127.0.0.1:1/x")
    assert (status, "127.0.0.1:1/x cannot be used" in said, "geheim" in said) == (2, True, False)
    connection = await asyncpg.connect(postgres_url)
    try:
        assert await connection.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    finally:
        await connection.close()


async def test_the_server_refuses_to_be_written_by_who_only_reads(url):
    server = PostgresServer(url, read_only=True)
    async with opened(server):
        with pytest.raises(JournalError, match="read-only transaction"):
            await server.fetch("DELETE FROM runs")
