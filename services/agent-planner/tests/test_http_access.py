"""The API key, the routes that read runs, health and metrics."""

from __future__ import annotations

import asyncio
from datetime import datetime

import httpx
import pytest
from pagi_chassis.errors import UnavailableError

KEY = "schlüssel-1"


def encoded(key: str) -> bytes:
    return key.encode()


class TestApiKey:
    @pytest.fixture(autouse=True)
    def guard(self, planner):
        planner.api_key = KEY

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-API-Key": encoded(KEY)},
            {"Authorization": b"Bearer " + encoded(KEY)},
            {"Authorization": b"bearer   " + encoded(KEY)},
        ],
    )
    async def test_the_holder_of_the_key_may_pass(self, planner, headers):
        async with planner.client(headers=headers) as client:
            assert (await client.post("/plan", json={"prompt": "hi"})).status_code == 200
            assert (await client.get("/runs")).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X-API-Key": b""},
            {"X-API-Key": b"wrong"},
            {"X-API-Key": KEY.encode("latin-1")},
            {"X-API-Key": encoded(KEY)[:-1]},
            {"X-API-Key": encoded(KEY) + b"1"},
            {"X-API-Key": b"\xff\xfe"},
            {"Authorization": b"Basic " + encoded(KEY)},
            {"Authorization": b"Bearer"},
            {"Authorization": encoded(KEY)},
        ],
    )
    async def test_nobody_else_passes_and_none_learns_why(self, planner, headers):
        answers = []
        async with planner.client(headers=headers) as client:
            for method, path in [
                ("POST", "/plan"),
                ("GET", "/runs"),
                ("GET", "/nothing"),
                ("GET", "/docs"),
                ("GET", "/redoc"),
                ("GET", "/openapi.json"),
                ("DELETE", "/plan"),
            ]:
                answers.append(await client.request(method, path, content=b"{ no json"))
        assert {answer.status_code for answer in answers} == {401}
        assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
        assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
        assert {answer.json()["detail"] for answer in answers} == {"unauthenticated"}
        assert planner.model.requests == []

    async def test_without_the_key_no_body_is_read(self, planner):
        async def parts():
            yield b"{"
            raise AssertionError("it was read")

        async with planner.client() as client:
            assert (await client.post("/plan", content=parts())).status_code == 401

    @pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
    async def test_who_watches_needs_no_key(self, planner, path):
        async with planner.client() as client:
            assert (await client.get(path)).status_code == 200

    @pytest.mark.parametrize("path", ["/health/", "/health/../runs", "/healthy", "/metrics/x", "//health"])
    async def test_what_only_looks_like_health_needs_it(self, planner, path):
        async with planner.client() as client:
            assert (await client.get(path)).status_code == 401

    async def test_the_document_names_both_ways(self, planner):
        async with planner.client(headers={"X-API-Key": encoded(KEY)}) as client:
            document = (await client.get("/openapi.json")).json()
        assert {scheme["type"] for scheme in document["components"]["securitySchemes"].values()} == {"apiKey", "http"}
        assert len(document["paths"]["/plan"]["post"]["security"]) == 2
        assert "security" not in document["paths"]["/health"]["get"]


class TestRuns:
    async def pages(self, client: httpx.AsyncClient, **query) -> list[list[str]]:
        pages, following = [], ""
        while following is not None:
            answer = await client.get("/runs", params={**query, "before": following})
            assert answer.status_code == 200
            pages.append([run["run_id"] for run in answer.json()["runs"]])
            following = answer.json()["next"]
        return pages

    async def test_they_are_listed_newest_first_in_pages_that_end(self, planner):
        async with planner.client() as client:
            ids = [(await client.post("/plan", json={"prompt": f"{n}"})).json()["run_id"] for n in range(6)][::-1]
            assert await self.pages(client, limit=4) == [ids[:4], ids[4:]]
            assert await self.pages(client, limit=3) == [ids[:3], ids[3:]]
            assert await self.pages(client) == [ids]

    async def test_they_are_listed_by_session(self, planner):
        async with planner.client() as client:
            assert await self.pages(client) == [[]]
            for session in ("a", "b", "a"):
                await client.post("/plan", json={"prompt": "hi", "session_id": session})
            [listed] = await self.pages(client, session_id="a")
            assert len(listed) == 2
            assert await self.pages(client, session_id="c") == [[]]

    async def test_a_line_of_the_list(self, planner):
        async with planner.client() as client:
            run = (await client.post("/plan", json={"prompt": "x" * 5_000, "session_id": "s"})).json()
            [line] = (await client.get("/runs")).json()["runs"]
        assert line.pop("prompt") == "x" * 499 + "…"
        assert datetime.fromisoformat(line["started_at"]) <= datetime.fromisoformat(line["ended_at"])
        assert line == {name: run[name] for name in line}
        assert set(line) == {"run_id", "session_id", "trace_id", "status", "started_at", "ended_at"}

    async def test_a_run_is_shown_as_it_was_answered(self, planner):
        async with planner.client() as client:
            run = (await client.post("/plan", json={"prompt": "hi"})).json()
            assert (await client.get(f"/runs/{run['run_id']}")).json() == run

    @pytest.mark.parametrize("run_id", ["run-1", "%00", "..%2f..%2fetc", "x" * 5_000, "%ff"])
    async def test_a_run_that_is_not_there_is_a_404(self, planner, run_id):
        async with planner.client() as client:
            answer = await client.get(f"/runs/{run_id}")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"limit": 0}, "limit"),
            ({"limit": 201}, "limit"),
            ({"limit": "ten"}, "limit"),
            ({"before": "run-unknown"}, "before"),
            ({"before": "x" * 201}, "before"),
            ({"session_id": "x" * 201}, "session_id"),
        ],
    )
    async def test_a_wrong_query_is_named(self, planner, query, field):
        async with planner.client() as client:
            answer = await client.get("/runs", params=query)
        assert answer.status_code == 422
        assert [fault["field"] for fault in answer.json()["errors"]] == [field]

    async def test_a_journal_that_cannot_be_read_says_when_to_come_back(self, planner):
        await planner.journal.stop()
        async with planner.client() as client:
            for path in ("/runs", "/runs/x"):
                answer = await client.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            answer = await client.post("/plan", json={"prompt": "hi"})
            assert (answer.status_code, answer.json()["detail"]) == (503, "the journal is closed")
        assert planner.model.requests == []


class TestHealth:
    async def check(self) -> None:
        raise UnavailableError("memory:50052 cannot be reached")

    async def hang(self) -> None:
        await asyncio.Event().wait()

    async def well(self) -> None:
        """Is there."""

    @pytest.mark.parametrize(("required", "status", "word"), [(False, 200, "degraded"), (True, 503, "unavailable")])
    async def test_it_tells_of_each_dependency(self, planner, required, status, word):
        planner.health.depends_on("sandbox", self.well)
        planner.health.depends_on("memory", self.check, required=required)
        async with planner.client() as client:
            answer = await client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (status, word)
        assert answer.json()["service"] == "agent-planner"
        assert answer.json()["dependencies"] == {
            "sandbox": {"status": "ok"},
            "memory": {"status": "unavailable", "detail": "memory:50052 cannot be reached"},
        }

    async def test_a_dependency_that_hangs_does_not_hold_it_up(self, planner):
        planner.health.depends_on("redis", self.hang)
        async with planner.client() as client, asyncio.timeout(5):
            assert (await client.get("/health")).json()["dependencies"]["redis"]["status"] == "unavailable"

    async def test_ready_and_live_are_told_apart(self, planner):
        planner.health.mark_stopping()
        async with planner.client() as client:
            assert (await client.get("/health/live")).json() == {"status": "ok"}
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})

    @pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
    async def test_a_balancer_may_ask_for_the_head_alone(self, planner, path):
        async with planner.client() as client:
            assert (await client.head(path)).status_code == 200

    async def test_metrics_are_prometheus_text(self, planner):
        async with planner.client() as client:
            await client.get("/runs/none")
            answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        assert 'pagi_http_server_requests_total{method="GET",route="/runs/{run_id}",status="404"}' in answer.text
