from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from pagi_chassis.health import Health
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.history import History
from pagi_memory.domain.model import SessionKey, Turn, TurnRole
from pagi_memory.routes.application import application
from pagi_memory.testing import InMemorySessionStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class BrokenSessionStore(InMemorySessionStore):
    async def newest(self, key: SessionKey, limit: int, *, before: object = None) -> list[Turn]:
        raise StoreUnavailableError("disk full") if key.session_id == "full" else RuntimeError("secret detail")


def client_of(store: InMemorySessionStore) -> httpx.AsyncClient:
    health = Health("memory")
    health.mark_ready()
    transport = httpx.ASGITransport(application(health, History(store)), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://memory")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    store = InMemorySessionStore()
    turns = [Turn(TurnRole.USER, "Tea?", "r1", 0, NOON), Turn(TurnRole.ASSISTANT, "Yes.", "r1", 1, NOON)]
    await store.append(SessionKey("", "demo"), "default", turns)
    await store.append(SessionKey("acme", "theirs"), "default", turns)
    async with client_of(store) as client:
        yield client


async def test_the_latest_turns_of_a_session(http: httpx.AsyncClient) -> None:
    answer = await http.get("/memory/latest", params={"session_id": "demo", "limit": "1"})
    assert answer.status_code == 200
    assert answer.json() == {
        "session_id": "demo",
        "turns": [
            {
                "role": "assistant",
                "text": "Yes.",
                "run_id": "r1",
                "position": 1,
                "created_at": "2026-03-01T12:00:00+00:00",
            }
        ],
    }
    assert len((await http.get("/memory/latest?session_id=demo")).json()["turns"]) == 2
    for unknown in ("other", "theirs"):
        assert (await http.get("/memory/latest", params={"session_id": unknown})).json()["turns"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "session_id"),
        ("session_id=", "session_id"),
        ("session_id=a%2Fb", "session_id"),
        ("session_id=a%00", "session_id"),
        ("session_id=" + "x" * 10_000, "session_id"),
        ("session_id=s&limit=0", "limit"),
        ("session_id=s&limit=-1", "limit"),
        ("session_id=s&limit=ten", "limit"),
        ("session_id=s&limit=1_0", "limit"),
        ("session_id=s&limit=%D9%A1", "limit"),
        ("session_id=s&limit=" + "9" * 5_000, "limit"),
        ("session_id=s&limit=1001", "limit"),
    ],
)
async def test_a_problem_names_the_field(http: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await http.get(f"/memory/latest?{query}", headers={"X-Trace-ID": "t-1"})
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (problem["status"], problem["trace_id"]) == (422, "t-1")
    assert [fault["field"] for fault in problem["errors"]] == [field]
    assert field in problem["detail"]
    assert problem["error"] == problem["detail"]


async def test_the_trace_id_is_echoed_or_made(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health", headers={"X-Trace-ID": "abc"})).headers["x-trace-id"] == "abc"
    assert len((await http.get("/health")).headers["x-trace-id"]) == 32
    refused = await http.get("/memory/latest?session_id=s", headers={"X-Trace-ID": "x" * 200})
    assert refused.json()["errors"][0]["field"] == "X-Trace-ID"


async def test_other_paths_and_methods_are_problems_too(http: httpx.AsyncClient) -> None:
    assert (await http.get("/nothing")).json()["status"] == 404
    answer = await http.post("/memory/latest?session_id=s")
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


async def test_health_and_metrics_are_served(http: httpx.AsyncClient) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await http.get(path)).json()["status"] == "ok"
    assert "pagi_" in (await http.get("/metrics")).text


async def test_a_store_that_is_away_says_when_to_come_back_and_a_fault_says_nothing() -> None:
    async with client_of(BrokenSessionStore()) as http:
        away = await http.get("/memory/latest?session_id=full")
        assert (away.status_code, away.headers["retry-after"], away.json()["detail"]) == (503, "1", "disk full")
        fault = await http.get("/memory/latest?session_id=s")
        assert (fault.status_code, fault.json()["title"]) == (500, "Internal error")
        assert "secret" not in fault.text
