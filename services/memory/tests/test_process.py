"""The real process on real stores: start, restart, death at any moment, damage, a second one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pagi.memory.v1 import memory_pb2 as pb
from pagi_chassis.errors import NotFoundError, PagiError

# As many as the fixture writes.
DOCUMENTS = 12
Start = Callable[..., Any]


def stored_documents(folder: Path) -> int:
    path = folder / "data" / "memory.db"
    if not path.exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM documents").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def dump(folder: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "data" / "memory.db")
    try:
        rows = connection.execute(
            "SELECT source, id, title, body, char_offset, model, vector FROM passages "
            "LEFT JOIN vectors ON vectors.number = passages.number ORDER BY id"
        )
        documents = connection.execute("SELECT source, fingerprint FROM documents ORDER BY source")
        pending = connection.execute("SELECT id FROM unindexed")
        connection.execute("INSERT INTO passage_words (passage_words) VALUES ('integrity-check')")
        return [*rows, *documents, *pending]
    finally:
        connection.close()


@pytest.mark.parametrize("chroma", ["embedded", "server"])
def test_follows_the_files_over_restarts(
    start: Start, tmp_path: Path, chroma: str, request: pytest.FixtureRequest
) -> None:
    variables = {}
    if chroma == "server":
        variables = {"CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": str(request.getfixturevalue("chroma_port"))}
    memory = start(**variables)
    memory.wait_for(memory.ready)
    assert asyncio.run(memory.search("how much water does number7 need"))[0][0] == "Domain-KB/plant07.md"
    assert memory.stop() == 0

    domain = tmp_path / "knowledge_bases" / "Domain-KB"
    (domain / "plant07.md").unlink()
    (domain / "plant08.md").write_text("# Plant 8\n\nPlant number8 was replaced by a cactus.")
    memory = start(**variables)
    memory.wait_for(memory.ready)
    assert f"{DOCUMENTS - 1} documents unchanged, 1 stored, 1 removed" in memory.log.read_text()
    found = asyncio.run(memory.search("number7 number8 water cactus"))
    assert "Domain-KB/plant07.md" not in [source for source, _, _ in found]
    assert [text for source, text, _ in found if source == "Domain-KB/plant08.md"] == [
        "Plant number8 was replaced by a cactus."
    ]
    assert memory.stop() == 0
    assert "rebuilt" not in memory.log.read_text()
    assert (tmp_path / "data" / "chroma").exists() == (chroma == "embedded")


def test_killed_during_ingestions_it_ends_where_an_undisturbed_run_would(start: Start, tmp_path: Path) -> None:
    # With some documents stored, with all of them and perhaps not indexed, and in the middle of changes.
    for after in (5, DOCUMENTS + 1):
        memory = start()
        memory.wait_for(lambda after=after: stored_documents(tmp_path) >= after)
        memory.stop(signal.SIGKILL)
    memory = start()
    memory.wait_for(memory.ready)
    assert asyncio.run(memory.search("sand and water for number3"))[0][0] == "Domain-KB/plant03.md"
    domain = tmp_path / "knowledge_bases" / "Domain-KB"
    for i in range(DOCUMENTS):
        (domain / f"plant{i:02}.md").write_text(f"# Plant {i}\n\nIt was moved to room number{i}." + " More." * 400)
    (domain / "plant03.md").unlink()
    memory.wait_for(lambda: "stored Domain-KB/plant01.md" in memory.log.read_text().split("memory is ready")[-1])
    memory.stop(signal.SIGKILL)
    memory = start()
    memory.wait_for(memory.ready)
    killed = asyncio.run(memory.search("which plant is in room number7"))
    memory.stop()
    after_kills = dump(tmp_path)
    assert not [row for row in after_kills if "plant03" in str(row[0])]

    for path in (tmp_path / "data").glob("memory.db*"):
        path.unlink()
    memory = start()
    memory.wait_for(memory.ready)
    assert asyncio.run(memory.search("which plant is in room number7")) == killed
    memory.stop()
    assert dump(tmp_path) == after_kills


def test_killed_during_appends_nothing_acknowledged_is_lost_and_a_repeat_stores_the_rest_once(start: Start) -> None:
    memory = start()
    memory.wait_for(memory.ready)

    def request(i: int) -> pb.StoreSessionHistoryRequest:
        turns = [pb.Turn(role=pb.TURN_ROLE_USER, text=f"penguin {i} {j}") for j in range(5)]
        return pb.StoreSessionHistoryRequest(session_id=f"s{i % 3}", run_id=f"r{i}", turns=turns)

    async def store(process: Any, runs: range, *, kill_after: int = 0) -> set[int]:
        acknowledged: set[int] = set()
        async with process.rpc() as (client, stub):

            async def one(i: int) -> None:
                with contextlib.suppress(PagiError):
                    await client.call(stub.StoreSessionHistory, request(i), timeout_s=30)
                    acknowledged.add(i)
                    if len(acknowledged) == kill_after:
                        process.process.kill()

            await asyncio.gather(*(one(i) for i in runs))
        return acknowledged

    acknowledged = asyncio.run(store(memory, range(300), kill_after=60))
    memory.process.wait()
    assert 60 <= len(acknowledged) < 300

    memory = start()
    memory.wait_for(memory.ready)
    base = f"http://127.0.0.1:{memory.http_port}/memory"

    def stored() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for line in httpx.get(f"{base}/history/export").text.splitlines():
            turn = json.loads(line)
            if turn["type"] == "turn":
                found.setdefault(turn["run_id"], []).append(turn["position"])
        return found

    latest = httpx.get(f"{base}/latest", params={"session_id": "s0", "limit": 5}).json()["turns"]
    assert [turn["text"].split()[2] for turn in latest] == ["0", "1", "2", "3", "4"]
    after_kill = stored()
    assert {f"r{i}" for i in acknowledged} <= after_kill.keys()
    assert all(positions == list(range(5)) for positions in after_kill.values()), "half of a run"
    assert len(asyncio.run(store(memory, range(300)))) == 300
    assert stored() == {f"r{i}": list(range(5)) for i in range(300)}
    counted = httpx.get(f"{base}/history/statistics").json()
    assert (counted["sessions"], counted["turns"]) == (3, 1_500)
    hits = httpx.get(f"{base}/history/search", params={"q": "penguin 299", "limit": 100}).json()["matches"]
    # The first turn of the run after it has the same words, in the turn before it.
    assert [hit["turn"]["run_id"] for hit in hits[:6]].count("r299") == 5


def test_a_broken_index_is_rebuilt_and_said_so(start: Start, tmp_path: Path) -> None:
    memory = start()
    memory.wait_for(memory.ready)
    before = asyncio.run(memory.search("sand for number5"))
    memory.stop()
    chroma = tmp_path / "data" / "chroma"
    for damage in ("database", "folder"):
        if damage == "database":
            (chroma / "chroma.sqlite3").write_bytes(b"rubbish" * 5000)
        else:
            for path in sorted(chroma.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        memory = start()
        memory.wait_for(memory.ready)
        assert asyncio.run(memory.search("sand for number5")) == before
        log = memory.log.read_text()
        assert "it is rebuilt from the store; `make ingest REBUILD=1` makes all of it anew from the files" in log
        assert f"{DOCUMENTS + 1} documents unchanged, 0 stored" in log
        memory.stop()


def test_a_second_process_is_refused(start: Start) -> None:
    first = start()
    first.wait_for(first.ready)
    other: dict[str, str] = {}
    for variable, file in (("CHROMA_PATH", "chroma"), ("MEMORY_DB_PATH", "memory.db"), ("HEART_DB_PATH", "heart.db")):
        second = start(**other)
        assert second.process.wait(timeout=30) == 1
        log = second.log.read_text()
        assert f"data/{file} is in use by process {first.process.pid}" in log
        assert variable in log
        assert "Traceback" not in log
        other[variable] = f"other/{file}"
    assert asyncio.run(first.search("sand for number5"))


def test_a_missing_folder_ends_the_start_with_the_variable(start: Start, tmp_path: Path) -> None:
    (tmp_path / "knowledge_bases").rename(tmp_path / "elsewhere")
    memory = start()
    assert memory.process.wait(timeout=30) == 1
    assert "KNOWLEDGE_BASES_DIR" in memory.log.read_text()
    assert "Traceback" not in memory.log.read_text()


def test_it_lives_before_it_is_ready_and_stops_while_it_ingests(start: Start, tmp_path: Path) -> None:
    for i in range(400):
        path = tmp_path / "knowledge_bases" / "Domain-KB" / f"more{i}.md"
        path.write_text(f"# More {i}\n\n" + "Words about many things. " * 100)
    memory = start()
    memory.wait_for(lambda: stored_documents(tmp_path) >= 1)
    base = f"http://127.0.0.1:{memory.http_port}"
    assert httpx.get(f"{base}/health/live").status_code == 200
    assert httpx.get(f"{base}/health/ready").status_code == 503
    assert httpx.get(f"{base}/health").json()["status"] == "unavailable"
    assert memory.stop() == 0
    assert stored_documents(tmp_path) < 400


def test_a_change_is_searchable_within_two_seconds(start: Start, tmp_path: Path) -> None:
    domain = tmp_path / "knowledge_bases" / "Domain-KB"
    # Long words: many characters are few tokens, so that the first ingestion is quick.
    long = "international organization information government development understanding " * 9
    sections = [f"## Herb {i}\n\nHerb {i} grows in valley {i * 7}. {long}" for i in range(145)]
    assert len("\n".join(sections)) > 100_000
    (domain / "herbs.md").write_text("\n".join(sections))
    memory = start()
    memory.wait_for(memory.ready)

    def found(query: str, text: str) -> bool:
        return any(text in found for _, found, _ in asyncio.run(memory.search(query)))

    sections[60] = "## Herb 60\n\nThe rare oregano was found on a roof."
    began = time.monotonic()
    (domain / "herbs.md").write_text("\n".join(sections))
    memory.wait_for(lambda: found("where was the rare oregano found", "on a roof"))
    took = time.monotonic() - began
    assert took < 2, took
    assert not found("herb 60 valley 420", "Herb 60 grows in valley 420")
    (domain / "herbs.md").unlink()
    memory.wait_for(lambda: not found("where was the rare oregano found", "on a roof"))
    # A whole persona, by moving its folder to its place.
    prepared = tmp_path / "gardener"
    (prepared / "Soul-KB").mkdir(parents=True)
    (prepared / "Soul-KB" / "me.md").write_text("I am the gardener.")
    (tmp_path / "knowledge_bases" / "personas").mkdir()
    prepared.rename(tmp_path / "knowledge_bases" / "personas" / "gardener")

    async def soul() -> str:
        async with memory.rpc() as (client, stub):
            request = pb.GetContextRequest(session_id="s", persona="gardener")
            try:
                return (await client.call(stub.GetContext, request, timeout_s=5)).soul
            except NotFoundError:
                return ""

    memory.wait_for(lambda: asyncio.run(soul()) == "I am the gardener.")
    assert memory.stop() == 0


def test_the_command_brings_all_in_step_and_names_what_was_skipped(start: Start, tmp_path: Path) -> None:
    (tmp_path / "knowledge_bases" / "Domain-KB" / "broken.pdf").write_bytes(b"no pdf")
    memory = start()
    memory.wait_for(memory.ready)
    command = [sys.executable, str(Path(__file__).parents[3] / "scripts" / "ingest.py")]
    done = subprocess.run(
        [*command, "--rebuild"],
        env={**os.environ, "MEMORY_GRPC_PORT": str(memory.grpc_port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "skipped Domain-KB/broken.pdf: it cannot be read" in done.stdout
    assert f"documents: 0 unchanged, {DOCUMENTS + 1} stored, 0 removed, 1 skipped, in" in done.stdout
    memory.stop()
    done = subprocess.run(
        [*command, "--address", f"127.0.0.1:{memory.grpc_port}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


class Endpoint(BaseHTTPRequestHandler):
    """An embedding endpoint with vectors of 8 numbers; `go` lets it answer."""

    go = threading.Event()

    def do_POST(self) -> None:
        self.go.wait(30)
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        vectors = [[1 + text.count("water"), *(text.count(letter) for letter in "abcdnsx")] for text in texts]
        body = json.dumps({"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    Endpoint.go.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_embedding_model_takes_over_while_the_old_one_serves(start: Start, endpoint: str) -> None:
    memory = start()
    memory.wait_for(memory.ready)
    before = asyncio.run(memory.search("how much water does number7 need"))
    memory.stop()

    variables = {"EMBEDDING_BACKEND": "openai", "EMBEDDING_MODEL_NAME": "small", "EMBEDDING_BASE_URL": endpoint}

    def knowledge() -> dict[str, object]:
        return dict(httpx.get(f"http://127.0.0.1:{memory.http_port}/memory/knowledge").json())

    Endpoint.go.clear()
    memory = start(**variables)
    memory.wait_for(memory.ready)
    assert asyncio.run(memory.search("how much water does number7 need")) == before
    told = knowledge()
    assert (told["embedding_model"], told["next_embedding_model"]) == ("all-MiniLM-L6-v2", f"small@{endpoint}")
    # Killed in the middle, it begins where it was.
    memory.stop(signal.SIGKILL)
    memory = start(**variables)
    memory.wait_for(memory.ready)
    Endpoint.go.set()
    memory.wait_for(lambda: knowledge()["next_embedding_model"] == "")
    assert knowledge()["embedding_model"] == f"small@{endpoint}"
    after = asyncio.run(memory.search("how much water does number7 need"))
    assert after[0][0] == "Domain-KB/plant07.md"
    assert memory.stop() == 0

    memory = start(**variables)
    memory.wait_for(memory.ready)
    assert asyncio.run(memory.search("how much water does number7 need")) == after
    assert memory.stop() == 0
    assert "rebuilt" not in memory.log.read_text()


def test_importing_the_service_loads_nothing_heavy() -> None:
    heavy = (
        "{'chromadb', 'onnxruntime', 'numpy', 'tokenizers', 'watchfiles', 'yaml', 'bs4', 'pypdf', 'mammoth', 'httpx'}"
    )
    code = f"import sys, pagi_memory.__main__; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
