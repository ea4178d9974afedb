"""The audit inspector: finds by any id, reads only, reads a database that lies on a read-only mount."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "inspect_audit.py"
SCHEMA = (
    "CREATE TABLE audit_log (id INTEGER PRIMARY KEY, trace_id TEXT, session_id TEXT, timestamp TEXT,"
    " event_type TEXT, data TEXT, run_id TEXT, seq INTEGER)"
)
ROWS = [
    ("t1", "s1", "2026-01-01T00:00:00Z", "PLAN_START", '{"prompt": "x"}', "r1", 1),
    ("t1", "s1", "2026-01-01T00:00:01Z", "PLAN_END", json.dumps({"result": "y" * 500}), "r1", 2),
    ("t2", "s1", "2026-01-01T00:00:02Z", "PLAN_START", "{}", "r2", 1),
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "audit.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(SCHEMA)
    connection.executemany(
        "INSERT INTO audit_log (trace_id, session_id, timestamp, event_type, data, run_id, seq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        ROWS,
    )
    connection.commit()
    connection.close()
    return path


def inspect(database: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, str(SCRIPT), "--db", str(database), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(("wanted", "count"), [("t1", 2), ("r2", 1), ("s1", 3)])
def test_finds_rows_by_any_id(database: Path, wanted: str, count: int) -> None:
    status, out, _ = inspect(database, "--json", wanted)
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == count
    assert all(wanted in (row["trace_id"], row["run_id"], row["session_id"]) for row in rows)


def test_shortens_long_data_for_people_and_not_for_machines(database: Path) -> None:
    assert "y" * 200 not in inspect(database, "t1")[1]
    assert "y" * 500 in inspect(database, "--json", "t1")[1]


def test_lists_runs_with_how_they_ended(database: Path) -> None:
    _, out, _ = inspect(database)
    first, second = out.splitlines()
    assert "running" in first
    assert "r2" in first
    assert "PLAN_END" in second


def test_an_unknown_id_and_a_missing_file_are_told_apart(database: Path, tmp_path: Path) -> None:
    assert inspect(database, "nobody")[0] == 1
    status, _, err = inspect(tmp_path / "absent.db", "t1")
    assert status == 2
    assert "there is no" in err
    assert not (tmp_path / "absent.db").exists()


def test_sees_what_a_running_planner_has_not_yet_folded_in(database: Path) -> None:
    writer = sqlite3.connect(database)
    writer.execute("INSERT INTO audit_log (trace_id, run_id, event_type, data) VALUES ('t3', 'r3', 'PLAN_START', '{}')")
    writer.commit()
    assert inspect(database, "--json", "t3")[0] == 0
    writer.close()


def test_writes_nothing(database: Path) -> None:
    before = database.read_bytes()
    inspect(database, "t1")
    assert database.read_bytes() == before


def test_the_place_is_told_by_the_environment_else_by_dotenv(database: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"PAGI_AUDIT_DB_PATH={database.name}\n")

    def listed(**environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert "run r2" in listed().stdout
    assert "nowhere.db" in listed(PAGI_AUDIT_DB_PATH="nowhere.db").stderr


def test_it_works_where_it_lies_alone(database: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.py"
    alone.write_bytes(SCRIPT.read_bytes())
    command = [sys.executable, "-S", str(alone), "t1"]
    environment = {"PAGI_AUDIT_DB_PATH": str(database)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "PLAN_END" in done.stdout) == (0, True), done.stderr
