"""Memory through the planner: what is asked, what is answered, who may."""

from __future__ import annotations

import pytest
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import NotFoundError, UnavailableError
from pagi_chassis.testing import serving
from pagi_planner.adapters.memory_desk import MemoryDesk
from pagi_planner.testing import ScriptedArchive

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def asked(planner, archive):
    planner.archive = archive
    archive.asked.clear()
    return archive.asked


@pytest.mark.parametrize(
    ("method", "path", "options", "question"),
    [
        (
            "GET",
            "/sessions?limit=2&persona=dog",
            {},
            ("ListSessions", {"limit": 2, "page_token": "", "persona": "dog"}),
        ),
        ("GET", "/sessions/a%20b", {}, ("GetSession", {"session_id": "a b"})),
        ("PATCH", "/sessions/s", {"json": {"title": "x"}}, ("UpdateSession", {"session_id": "s", "title": "x"})),
        ("DELETE", "/sessions/s", {}, ("DeleteSession", {"session_id": "s"})),
        ("GET", "/sessions/s/turns?limit=9", {}, ("GetSessionHistory", {"session_id": "s", "max_turns": 9})),
        (
            "PATCH",
            "/sessions/s/turns/r/3",
            {"json": {"text": ""}},
            ("UpdateTurn", {"session_id": "s", "run_id": "r", "position": 3, "text": ""}),
        ),
        ("DELETE", "/sessions/s/turns/r/0", {}, ("DeleteTurn", {"session_id": "s", "run_id": "r", "position": 0})),
        (
            "GET",
            "/history/search?q=tea",
            {},
            ("SearchHistory", {"query": "tea", "session_id": "", "persona": "", "limit": 10}),
        ),
        ("GET", "/history/export", {}, ("ExportSessions", {"session_id": ""})),
        ("POST", "/history/import", {"content": "ü\n", "headers": LINES}, ("ImportSessions", {"jsonl": "ü\n"})),
        ("GET", "/history/statistics", {}, ("GetStatistics", {})),
        (
            "GET",
            "/playbooks?state=set_aside",
            {},
            ("ListPlaybooks", {"state": "set_aside", "persona": "", "query": "", "limit": 50, "page_token": ""}),
        ),
        ("GET", "/playbooks/p", {}, ("GetPlaybook", {"id": "p"})),
        (
            "PATCH",
            "/playbooks/p",
            {"json": {"state": "active", "notes": ""}},
            ("UpdatePlaybook", {"id": "p", "state": "active", "notes": ""}),
        ),
        ("DELETE", "/playbooks/p", {}, ("DeletePlaybook", {"id": "p"})),
    ],
)
async def test_a_question_goes_on_as_it_is(planner, asked, method, path, options, question):
    async with planner.client() as client:
        answer = await client.request(method, f"/memory{path}", **options)
    assert answer.status_code in (200, 204), answer.text
    assert asked[-1] == question


async def test_answers_are_as_people_read_them(planner, asked):
    async with planner.client() as client:
        [session] = (page := (await client.get("/memory/sessions")).json())["sessions"]
        assert (session["session_id"], session["created_at"], page["next"]) == ("s", "2026-03-01T12:00:00Z", "1:s")
        [turn] = (await client.get("/memory/sessions/s/turns")).json()["turns"]
        assert (turn["role"], turn["edited_at"]) == ("user", None)
        playbook = (await client.get("/memory/playbooks/p")).json()
        assert (playbook["state"], playbook["cost_usd"], playbook["tool_versions"]) == ("active", None, {"kettle": "1"})
        exported = await client.get("/memory/history/export?session_id=s")
        assert (exported.headers["content-type"], exported.text) == (
            "application/x-ndjson",
            '{"type": "session"}\n',
        )


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/sessions?limit=0", {}, 422),
        ("GET", "/history/search", {}, 422),
        ("GET", "/playbooks?state=odd", {}, 422),
        ("DELETE", "/sessions/s/turns/r/-1", {}, 422),
        ("PATCH", "/sessions/s", {"json": {"title": "x", "more": 1}}, 422),
        ("PATCH", "/playbooks/p", {"json": {"state": "gone"}}, 422),
        ("POST", "/history/import", {"content": "x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/history/import", {"content": b"\xff", "headers": LINES}, 422),
    ],
)
async def test_what_cannot_be_asked_is_a_problem(planner, asked, method, path, options, status):
    async with planner.client() as client:
        answer = await client.request(method, f"/memory{path}", **options)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert asked == []


@pytest.mark.parametrize(
    ("error", "status"), [(NotFoundError("no such session"), 404), (UnavailableError("away"), 503)]
)
async def test_what_memory_says_reaches_the_caller(planner, error, status):
    planner.archive = ScriptedArchive({"GetSession": error})
    async with planner.client() as client:
        for path in ("/memory/sessions/s", "/memory/sessions/s/turns", "/memory/history/export?session_id=s"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["detail"]) == (status, error.message)


async def test_without_the_key_nothing_is_told(planner, asked):
    planner.api_key = "secret"
    async with planner.client() as client:
        for method, path in [("GET", "/memory/sessions"), ("DELETE", "/memory/playbooks/p")]:
            assert (await client.request(method, path)).status_code == 401
        assert asked == []
        assert (await client.get("/memory/sessions", headers={"X-API-Key": "secret"})).status_code == 200


class AskedMemory(memory_pb2_grpc.MemoryServicer):
    def __init__(self):
        self.requests = []

    async def UpdatePlaybook(self, request, context):
        self.requests.append((request, correlation.current().tenant))
        return pb.UpdatePlaybookResponse(playbook=pb.Playbook(id=request.id, state=request.state))

    async def ExportSessions(self, request, context):
        yield pb.ExportSessionsResponse(jsonl="a\n")
        yield pb.ExportSessionsResponse(jsonl="b\n")


async def test_the_desk_asks_over_grpc_for_the_tenant_of_the_request():
    memory = AskedMemory()
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, memory, "pagi.memory.v1.Memory") as client:
        desk = MemoryDesk(client)
        with correlation.bind(tenant="acme"):
            answer = await desk.ask("UpdatePlaybook", id="p", state="set_aside", notes="\ud800")
        assert (answer["playbook"]["state"], answer["playbook"]["cost_usd"]) == ("set_aside", None)
        [(request, tenant)] = memory.requests
        assert (request.notes, request.HasField("prompt"), tenant) == ("?", False, "acme")
        assert [lines async for lines in desk.export("")] == ["a\n", "b\n"]
