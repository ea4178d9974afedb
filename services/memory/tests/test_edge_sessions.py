"""Sessions and playbooks over gRPC and HTTP: the whole edge over fakes."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pagi_chassis.health import Health
from pagi_chassis.testing import serving
from pagi_memory.routes.application import application
from pagi_memory.routes.playbooks import PlaybookRoutes
from pagi_memory.routes.sessions import SessionRoutes
from pagi_memory.servicer import SERVICE_NAME

TEXT = {"Content-Type": "text/plain"}
LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def rpc(mind) -> AsyncIterator[SimpleNamespace]:
    await mind.ingestion.run()
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, mind.servicer(), SERVICE_NAME) as client:
        stub = memory_pb2_grpc.MemoryStub(client.channel)

        class Caller:
            def __getattr__(self, name: str):
                async def call(**fields):
                    request = getattr(pb, f"{name}Request")(**fields)
                    if name == "ExportSessions":
                        return [part.jsonl async for part in client.stream(stub.ExportSessions, request, timeout_s=5)]
                    return await client.call(getattr(stub, name), request, timeout_s=5)

                return call

        yield Caller()


def client_of(mind, api_key: str = "") -> httpx.AsyncClient:
    health = Health("memory")
    health.mark_ready()
    more = [
        *SessionRoutes(mind.history, mind.conversations, mind.playbooks).routes(),
        *PlaybookRoutes(mind.playbooks).routes(),
    ]
    app = application(health, mind.history, more=more, max_body_bytes=1_000_000, api_key=api_key)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://memory")


@pytest.fixture
async def http(mind) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(mind) as client:
        yield client


def turns(run: str, seconds: int, *texts: str) -> dict[str, object]:
    return {
        "run_id": run,
        "turns": [
            pb.Turn(role=1 if i % 2 == 0 else 2, text=text, created_at=Timestamp(seconds=seconds + i))
            for i, text in enumerate(texts)
        ],
    }


STEP = pb.PlaybookStep(tool="kettle", arguments_json="{}", outcome="hot")


async def test_sessions_over_grpc(rpc) -> None:
    await rpc.StoreSessionHistory(session_id="a", persona="dog", **turns("r1", 10, "Walk when?", "At seven."))
    await rpc.StoreSessionHistory(session_id="b", **turns("r2", 20, "Tea?"))
    page = await rpc.ListSessions(limit=1)
    assert [(s.session_id, s.title, s.persona, s.turns) for s in page.sessions] == [("b", "Tea?", "default", 1)]
    page = await rpc.ListSessions(limit=1, page_token=page.next_page_token)
    assert ([s.session_id for s in page.sessions], page.next_page_token) == (["a"], "")
    assert [s.session_id for s in (await rpc.ListSessions(persona="dog")).sessions] == ["a"]
    assert (await rpc.UpdateSession(session_id="a", title=" My  walk ")).session.title == "My walk"
    [match, *_] = (await rpc.SearchHistory(query="when is the walk")).matches
    assert (match.session_id, match.title, match.turn.text, list(match.matched_words)) == (
        "a",
        "My walk",
        "Walk when?",
        ["walk"],
    )
    turn = (await rpc.UpdateTurn(session_id="a", run_id="r1", position=1, text="At eight.")).turn
    assert turn.text == "At eight."
    assert turn.HasField("edited_at")
    await rpc.DeleteTurn(session_id="a", run_id="r1", position=0)
    assert [t.text for t in (await rpc.GetSessionHistory(session_id="a")).turns] == ["At eight."]
    counted = await rpc.GetStatistics()
    assert (counted.sessions, counted.turns, counted.oldest_turn_at.seconds) == (2, 2, 11)
    assert (await rpc.DeleteSession(session_id="a")).deleted_turns == 1
    with pytest.raises(NotFoundError):
        await rpc.GetSession(session_id="a")
    assert (await rpc.StoreSessionHistory(session_id="a", **turns("r1", 10, "Walk when?"))).stored == 0


async def test_a_context_tells_what_was_said_before(rpc, mind) -> None:
    for i in range(30):
        await rpc.StoreSessionHistory(session_id="s", **turns(f"r{i:02}", 10 * i, f"question{i}", f"answer{i}"))
    await mind.history._summaries.settle()
    told = await rpc.GetContext(session_id="s", max_turns=2)
    assert [turn.text for turn in told.turns] == ["question29", "answer29"]
    assert "question28" in told.summary
    session = await rpc.GetSession(session_id="s")
    # Twelve at a time; the four that do not fit and are not in it yet are condensed on the spot.
    assert (session.summary_by, session.summarised_turns) == ("extract", 36)
    assert (await rpc.GetContext(session_id="s", max_history_tokens=1)).turns == []


async def test_what_is_exported_can_be_imported_by_another_tenant(rpc) -> None:
    await rpc.StoreSessionHistory(session_id="a", persona="dog", **turns("r/1", 10, 'Say "ü"\n', "\u2028 Wau."))
    await rpc.UpdateSession(session_id="a", title="Mine")
    await rpc.UpdateTurn(session_id="a", run_id="r/1", position=1, text="edited")
    await rpc.StoreSessionHistory(session_id="b", **turns("r2", 20, "Tea?"))
    lines = "".join(await rpc.ExportSessions())
    assert lines.count("\n") == 5
    with correlation.bind(tenant="acme"):
        report = await rpc.ImportSessions(jsonl=lines)
        assert (report.sessions, report.stored_turns, report.known_turns) == (2, 3, 0)
        again = await rpc.ImportSessions(jsonl=lines)
        assert (again.stored_turns, again.known_turns) == (0, 3)
        assert "".join(await rpc.ExportSessions()) == lines
        assert "".join(await rpc.ExportSessions(session_id="b")).count("\n") == 2
        with pytest.raises(NotFoundError):
            await rpc.ExportSessions(session_id="c")
    with correlation.bind(tenant="other"):
        assert await rpc.ExportSessions() == []


async def test_playbooks_over_grpc(rpc) -> None:
    made = await rpc.RecordPlaybook(
        run_id="r1", prompt="Boil tea water", steps=[STEP], tool_versions={"kettle": "1"}, cost_usd=0.5, duration_ms=7
    )
    assert made.created
    assert (await rpc.RecordPlaybook(run_id="r2", prompt="boil TEA water", steps=[STEP])).id == made.id
    told = await rpc.GetContext(session_id="s", query="boil tea water")
    [given] = [passage for passage in told.passages if passage.knowledge_base == pb.KNOWLEDGE_BASE_MIND]
    assert given.source == f"playbook:{made.id}"
    assert "1. kettle {} -> hot" in given.text
    assert "2 of 2 runs succeeded" in given.text
    assert 0 < given.score < given.score_parts.cosine <= 1.0001
    outcome = {"run_id": "r3", "playbook_ids": [made.id], "outcome": pb.RUN_OUTCOME_LOSS}
    assert (await rpc.RecordPlaybookOutcome(**outcome)).counted == 1
    assert (await rpc.RecordPlaybookOutcome(**outcome)).counted == 0
    changed = (await rpc.UpdatePlaybook(id=made.id, notes="Careful", state=pb.PLAYBOOK_STATE_SET_ASIDE)).playbook
    assert (changed.notes, changed.reason, changed.wins, changed.losses) == ("Careful", "set aside by hand", 2, 1)
    assert not [
        p for p in (await rpc.GetContext(session_id="s", query="boil tea water")).passages if p.knowledge_base == 4
    ]
    assert [p.id for p in (await rpc.ListPlaybooks(state=pb.PLAYBOOK_STATE_SET_ASIDE)).playbooks] == [made.id]
    assert not (await rpc.ListPlaybooks(state=pb.PLAYBOOK_STATE_ACTIVE)).playbooks
    counted = await rpc.GetStatistics()
    assert (counted.playbooks, counted.playbooks_set_aside, counted.playbook_wins) == (1, 1, 2)
    await rpc.DeletePlaybook(id=made.id)
    with pytest.raises(NotFoundError):
        await rpc.GetPlaybook(id=made.id)


async def test_runs_are_recorded_together(rpc) -> None:
    lesson = {"run_id": "r1", "prompt": "Boil tea water", "steps": [STEP]}
    [first] = (await rpc.RecordRuns(runs=[{"playbook": lesson}])).results
    runs = [
        {"playbook": lesson | {"run_id": "r2"}},
        {"playbook": lesson | {"run_id": "r3", "prompt": ""}},
        {"outcome": {"run_id": "r4", "playbook_ids": [first.playbook_id], "outcome": pb.RUN_OUTCOME_LOSS}},
        {"outcome": {"run_id": "r5", "playbook_ids": [first.playbook_id]}},
        {},
    ]
    results = (await rpc.RecordRuns(runs=runs)).results
    assert [(r.code, r.field, r.playbook_id, r.counted) for r in results] == [
        (0, "", first.playbook_id, 0),
        (3, "prompt", "", 0),
        (0, "", "", 1),
        (3, "outcome", "", 0),
        (3, "runs", "", 0),
    ]
    assert results[1].message == "prompt is empty."
    playbook = (await rpc.GetPlaybook(id=first.playbook_id)).playbook
    assert (first.created, playbook.wins, playbook.losses) == (True, 2, 1)
    with correlation.bind(tenant="acme"):
        theirs = (await rpc.RecordRuns(runs=[runs[2]])).results
    assert theirs[0].counted == 0


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("ListSessions", {"limit": 201}, "limit"),
        ("ListSessions", {"limit": -1}, "limit"),
        ("ListSessions", {"page_token": "x"}, "page_token"),
        ("ListSessions", {"page_token": f"{2**70}:a"}, "page_token"),
        ("GetSession", {"session_id": "../x"}, "session_id"),
        ("GetSession", {"session_id": "x" * 10_240}, "session_id"),
        ("UpdateSession", {"session_id": "s", "title": " "}, "title"),
        ("UpdateSession", {"session_id": "s", "title": "x" * 201}, "title"),
        ("UpdateTurn", {"session_id": "s", "run_id": "", "text": "x"}, "run_id"),
        ("UpdateTurn", {"session_id": "s", "run_id": "r", "text": "x" * 1_048_577}, "text"),
        ("DeleteTurn", {"session_id": "s", "run_id": "r", "position": -1}, "position"),
        ("SearchHistory", {"query": "x" * 32_769}, "query"),
        ("SearchHistory", {"query": "x", "limit": 101}, "limit"),
        ("SearchHistory", {"query": "x", "session_id": "a/b"}, "session_id"),
        ("ImportSessions", {"jsonl": "{}\n" * 2_001}, "jsonl"),
        ("ImportSessions", {"jsonl": "x"}, "jsonl"),
        ("GetContext", {"session_id": "s", "max_history_tokens": -1}, "max_history_tokens"),
        ("RecordPlaybook", {"run_id": "r", "prompt": "x"}, "steps"),
        ("RecordPlaybookOutcome", {"run_id": "r", "playbook_ids": ["p"]}, "outcome"),
        ("RecordPlaybookOutcome", {"run_id": "r", "playbook_ids": ["p"], "outcome": 9}, "outcome"),
        ("RecordPlaybookOutcome", {"run_id": "r", "playbook_ids": [""], "outcome": 1}, "playbook_ids"),
        ("RecordPlaybook", {"run_id": "r", "prompt": "x", "steps": [STEP], "duration_ms": math.nan}, "duration_ms"),
        ("RecordPlaybook", {"run_id": "r", "prompt": "x", "steps": [STEP], "cost_usd": math.inf}, "cost_usd"),
        ("ListPlaybooks", {"state": 9}, "state"),
        ("ListPlaybooks", {"persona": "a\0b"}, "persona"),
        ("GetPlaybook", {"id": ""}, "id"),
        ("UpdatePlaybook", {"id": "x" * 201}, "id"),
    ],
)
async def test_what_cannot_be_used_names_its_field(rpc, method: str, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await getattr(rpc, method)(**fields)
    assert caught.value.field == field


async def test_a_line_that_is_no_json_is_named_with_the_place(rpc) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^line 2: this is no JSON: Expecting value \(character 7\)$"):
        await rpc.ImportSessions(jsonl='{"type": "session", "session_id": "s"}\n{"a": x}\n')


@pytest.mark.parametrize("tenant", ["x" * 201, "a\0b", "a\nb"])
async def test_a_tenant_that_can_be_none_is_refused(rpc, tenant: str) -> None:
    with correlation.bind(tenant=tenant), pytest.raises(InvalidArgumentError) as caught:
        await rpc.ListSessions()
    assert caught.value.field == "tenant"


GOOD = {"type": "turn", "session_id": "s", "run_id": "r", "position": 0, "role": "user", "text": "x"}
GOOD |= {"created_at": "2026-03-01T12:00:00+00:00"}


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '{"type": "turn"}',
        json.dumps(GOOD | {"type": "other"}),
        json.dumps(GOOD | {"role": "king"}),
        json.dumps(GOOD | {"position": "0"}),
        json.dumps(GOOD | {"position": True}),
        json.dumps(GOOD | {"position": -1}),
        json.dumps(GOOD | {"position": 2**40}),
        json.dumps(GOOD | {"text": 7}),
        json.dumps(GOOD | {"created_at": "yesterday"}),
        json.dumps(GOOD | {"created_at": "2026-03-01T12:00:00"}),
        json.dumps(GOOD | {"created_at": "0001-01-01T00:00:00+23:00"}),
        json.dumps(GOOD | {"session_id": "a/b"}),
        json.dumps(GOOD | {"run_id": ""}),
        json.dumps({"type": "session", "session_id": "s", "persona": "../x"}),
    ],
)
async def test_of_lines_with_a_fault_none_is_taken_in(http: httpx.AsyncClient, line: str) -> None:
    body = json.dumps(GOOD | {"run_id": "good"}) + "\n" + line
    answer = await http.post("/memory/history/import", content=body, headers=LINES)
    assert answer.status_code == 422, answer.text
    assert (await http.get("/memory/sessions")).json()["sessions"] == []


async def test_odd_text_is_taken_in_as_it_can_be(http: httpx.AsyncClient) -> None:
    body = json.dumps(GOOD | {"text": "\ud800 a\0b \U0001f642"})
    answer = await http.post("/memory/history/import", content=body, headers=LINES)
    assert answer.json() == {"sessions": 1, "stored_turns": 1, "known_turns": 0}
    turns = (await http.get("/memory/sessions/s/turns")).json()["turns"]
    assert turns[0]["text"] == "? a\ufffdb \U0001f642"


async def test_a_title_that_is_taken_in_is_as_long_as_one_may_be(http: httpx.AsyncClient) -> None:
    head = json.dumps({"type": "session", "session_id": "s", "title": "a\n" * 5_000})
    await http.post("/memory/history/import", content=f"{head}\n{json.dumps(GOOD)}", headers=LINES)
    [session] = (await http.get("/memory/sessions")).json()["sessions"]
    assert session["title"] == ("a " * 100).strip()


async def test_sessions_over_http(http: httpx.AsyncClient) -> None:
    lines = "\n".join(json.dumps(GOOD | {"run_id": f"a/{i}", "text": f"walk {i}"}) for i in range(3))
    await http.post("/memory/history/import", content=lines, headers=LINES)
    [session] = (await http.get("/memory/sessions?limit=1")).json()["sessions"]
    assert (session["session_id"], session["title"], session["turns"]) == ("s", "walk 0", 3)
    assert (await http.patch("/memory/sessions/s", json={"title": "Walks"})).json()["title"] == "Walks"
    assert (await http.get("/memory/sessions/s")).json()["summary"] is None
    edited = await http.patch("/memory/sessions/s/turns/a/1/0", json={"text": "run"})
    assert (edited.json()["text"], edited.json()["role"]) == ("run", "user")
    assert (await http.delete("/memory/sessions/s/turns/a/2/0")).status_code == 204
    assert (await http.delete("/memory/sessions/s/turns/a/2/0")).status_code == 404
    matches = (await http.get("/memory/history/search?q=walk")).json()["matches"]
    assert (matches[0]["turn"]["text"], matches[0]["matched_words"]) == ("walk 0", ["walk"])
    exported = await http.get("/memory/history/export?session_id=s")
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["type"] for line in exported.text.splitlines()] == ["session", "turn", "turn"]
    assert (await http.get("/memory/history/statistics")).json()["turns"] == 2
    assert (await http.delete("/memory/sessions/s")).json() == {"deleted_turns": 2}
    assert (await http.get("/memory/sessions/s")).status_code == 404
    assert (await http.get("/memory/history/export?session_id=s")).status_code == 404


async def test_playbooks_over_http(http: httpx.AsyncClient, mind) -> None:
    from pagi_memory.domain.playbook import NewPlaybook, PlaybookStep

    made, _ = await mind.learning.record("", NewPlaybook("r", "", "boil tea", [PlaybookStep("kettle", "{}", "hot")]))
    [listed] = (await http.get("/memory/playbooks")).json()["playbooks"]
    assert (listed["id"], listed["state"], listed["steps"][0]["tool"], listed["cost_usd"]) == (
        made,
        "active",
        "kettle",
        None,
    )
    assert [p["id"] for p in (await http.get("/memory/playbooks?q=tea%20boil")).json()["playbooks"]] == [made]
    aside = await http.patch(f"/memory/playbooks/{made}", json={"state": "set_aside", "notes": "hm"})
    assert (aside.json()["state"], aside.json()["notes"]) == ("set_aside", "hm")
    assert (await http.get("/memory/playbooks?state=active")).json() == {"playbooks": [], "next": None}
    assert (await http.patch(f"/memory/playbooks/{made}", json={"state": "active"})).json()["reason"] == ""
    assert (await http.get(f"/memory/playbooks/{made}", headers={"X-Tenant": "acme"})).status_code == 404
    assert (await http.delete(f"/memory/playbooks/{made}")).status_code == 204
    assert (await http.get(f"/memory/playbooks/{made}")).status_code == 404


async def test_the_header_says_whose_memory_is_meant(http: httpx.AsyncClient) -> None:
    await http.post("/memory/history/import", content=json.dumps(GOOD), headers=LINES | {"X-Tenant": "acm%C3%A9"})
    assert (await http.get("/memory/sessions")).json()["sessions"] == []
    theirs = {"X-Tenant": "acm%C3%A9"}
    assert len((await http.get("/memory/sessions", headers=theirs)).json()["sessions"]) == 1
    for path in ("/memory/sessions/s", "/memory/sessions/s/turns", "/memory/history/export?session_id=s"):
        assert (await http.get(path)).status_code == 404
        assert (await http.get(path, headers=theirs)).status_code == 200
    for path in ("/memory/latest?session_id=s", "/memory/history/search?q=x"):
        assert "2026" not in (await http.get(path)).text
        assert "2026" in (await http.get(path, headers=theirs)).text
    assert (await http.patch("/memory/sessions/s", json={"title": "x"})).status_code == 404
    assert (await http.patch("/memory/sessions/s/turns/r/0", json={"text": "x"})).status_code == 404
    assert (await http.delete("/memory/sessions/s/turns/r/0")).status_code == 404
    assert (await http.delete("/memory/sessions/s")).status_code == 404
    refused = await http.get("/memory/sessions", headers={"X-Tenant": "a%00b"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "tenant")


async def test_where_a_key_is_set_nothing_but_health_is_open(mind) -> None:
    async with client_of(mind, api_key="secret") as http:
        for path in ("/memory/latest?session_id=s", "/memory/sessions", "/memory/playbooks", "/nothing"):
            assert (await http.get(path)).status_code == 401
            assert (await http.get(path, headers={"X-API-Key": "wrong"})).status_code == 401
        assert (await http.get("/memory/sessions", headers={"X-API-Key": "secret"})).status_code == 200
        assert (await http.get("/memory/sessions", headers={"Authorization": "Bearer secret"})).status_code == 200
        assert (await http.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "options", "field"),
    [
        ("GET", "/memory/sessions?limit=0", {}, "limit"),
        ("GET", "/memory/sessions?limit=1e3", {}, "limit"),
        ("GET", "/memory/sessions?page_token=x", {}, "page_token"),
        ("GET", "/memory/history/search", {}, "q"),
        ("GET", "/memory/history/search?q=%20", {}, "q"),
        ("GET", "/memory/playbooks?state=odd", {}, "state"),
        ("PATCH", "/memory/sessions/s", {"json": {"title": 7}}, "title"),
        ("PATCH", "/memory/sessions/s", {"json": {"name": "x"}}, "name"),
        ("PATCH", "/memory/sessions/s", {"json": {}}, "body"),
        ("PATCH", "/memory/sessions/s", {"json": []}, "body"),
        ("PATCH", "/memory/sessions/s", {"content": b"{", "headers": {"Content-Type": "application/json"}}, "body"),
        ("PATCH", "/memory/sessions/s", {"content": b'{"title": "x"}'}, "Content-Type"),
        ("POST", "/memory/history/import", {"content": b"x"}, "Content-Type"),
        (
            "POST",
            "/memory/history/import",
            {"content": b"x", "headers": {"Content-Type": "text/plain"}},
            "Content-Type",
        ),
        ("POST", "/memory/history/import", {"content": b"\xff", "headers": LINES}, "body"),
    ],
)
async def test_a_problem_names_the_field(
    http: httpx.AsyncClient, method: str, path: str, options: dict[str, object], field: str
) -> None:
    answer = await http.request(method, path, **options)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_what_is_too_large_for_one_answer_comes_in_parts(rpc) -> None:
    for run in range(9):
        await rpc.StoreSessionHistory(session_id="s", **turns(f"r{run}", run, *["x" * 1_048_572 + " tea"] * 2))
    told = (await rpc.GetSessionHistory(session_id="s", max_turns=1_000)).turns
    assert [turn.run_id for turn in told] == [f"r{3 + i // 2}" for i in range(12)]
    assert len((await rpc.SearchHistory(query="tea", limit=100)).matches) == 12
    versions = {f"t{i}": "x" * 100_000 for i in range(50)}
    steps = [{"tool": f"t{i}", "arguments_json": "{}"} for i in range(50)]
    for i in range(4):
        await rpc.RecordPlaybook(run_id=f"p{i}", prompt=f"task{i}", steps=steps, tool_versions=versions)
    first = await rpc.ListPlaybooks(limit=200)
    rest = await rpc.ListPlaybooks(limit=200, page_token=first.next_page_token)
    assert [len(page.playbooks) for page in (first, rest)] == [2, 2]
    assert not rest.next_page_token
