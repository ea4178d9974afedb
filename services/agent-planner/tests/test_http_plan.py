"""POST /plan and /run over ASGI: what a caller gets when all is well, and when a part is not."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime

import httpx
import pytest
from pagi_chassis.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    ResourceExhaustedError,
    UnavailableError,
)
from pagi_planner import Limits
from pagi_planner.domain.errors import UnknownModelError
from pagi_planner.domain.model import Passage
from pagi_planner.schemas import Bounds
from pagi_planner.testing import ScriptedModel, WaitingModel, call, calling, saying

ADD = call("add", {"a": 1, "b": 2}, "c1")
W3C = "0af7651916cd43dd8448eb211c80319c"


def assert_problem(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "detail", "trace_id", "error"} <= set(body)
    assert body["status"] == status
    assert body["error"] == body["detail"] != ""
    assert body["trace_id"] == answer.headers["x-trace-id"]
    return body


@pytest.mark.parametrize("path", ["/plan", "/run"])
async def test_an_answer_has_the_members_of_the_contract(planner, path):
    planner.model = ScriptedModel(calling(ADD), saying("It is 3. Source: Domain-KB/sums.md", cost_usd=0.25))
    planner.memory.passages = [Passage("p", "1+2=3", 0.75, "Domain-KB", "Domain-KB/sums.md", ("Sums", "Small"))]
    async with planner.client() as client:
        answer = await client.post(path, json={"prompt": "1 + 2?", "session_id": "demo"}, headers={"X-Trace-ID": "t-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    body = answer.json()
    [step] = body["steps"]
    assert datetime.fromisoformat(step.pop("timestamp")).tzinfo
    started, ended = (datetime.fromisoformat(body.pop(name)) for name in ("started_at", "ended_at"))
    assert started <= ended
    assert re.fullmatch(r"run-[0-9a-f]{32}", body.pop("run_id"))
    assert step == {"step": 1, "tool": "add", "input": {"a": 1, "b": 2}, "output": {"sum": 3}, "error": None}
    assert body == {
        "result": "It is 3. Source: Domain-KB/sums.md",
        "session_id": "demo",
        "trace_id": "t-1",
        "status": "completed",
        "model": "scripted",
        "steps": [step],
        "sources": [
            {
                "source": "Domain-KB/sums.md",
                "knowledge_base": "Domain-KB",
                "headings": ["Sums", "Small"],
                "score": 0.75,
                "cited": True,
            }
        ],
        "usage": {"input_tokens": 20, "output_tokens": 10, "cost_usd": 0.25},
        "degraded": [],
        "approvals": [],
        "plan": [],
        "error": None,
    }


async def test_the_trace_id_is_on_every_row_of_the_journal(planner):
    async with planner.client() as client:
        answer = await client.post("/plan", json={"prompt": "hi"}, headers={"X-Trace-ID": "my id"})
        made = await client.post("/plan", json={"prompt": "hi"})
        joined = await client.post(
            "/plan", json={"prompt": "hi"}, headers={"traceparent": f"00-{W3C}-b7ad6b7169203331-01"}
        )
    assert answer.headers["x-trace-id"] == answer.json()["trace_id"] == "my id"
    assert re.fullmatch(r"[0-9a-f]{32}", made.headers["x-trace-id"])
    assert joined.json()["trace_id"] == W3C
    events = await planner.journal.events(answer.json()["run_id"])
    assert {event.trace_id for event in events} == {"my id"}


async def test_a_request_without_a_session_gets_one_that_the_next_may_name(planner):
    async with planner.client() as client:
        first = (await client.post("/plan", json={"prompt": "I am Ada."})).json()
        await client.post("/plan", json={"prompt": "Who am I?", "session_id": first["session_id"]})
    assert [message.text for message in planner.model.requests[1].messages[1:]] == ["I am Ada.", "hello", "Who am I?"]


async def test_every_member_of_a_request_reaches_the_run(planner):
    request = {
        "prompt": "do",
        "session_id": "s",
        "resources": [{"type": "url", "uri": "https://example.com"}],
        "persona": "",
        "model": "m",
        "tools": ["add", "add"],
        "limits": {"max_steps": 3, "timeout_s": 5, "max_cost_usd": 0.5, "max_tokens": 1_000, "max_tool_calls": 2},
        "mode": "react",
        "evaluate": {"judge": False, "threshold": 0.9, "max_refinements": 3},
        "understand": {"model": False},
        "temperature": 0.25,
    }
    del request["persona"]
    async with planner.client() as client:
        run_id = (await client.post("/plan", json=request)).json()["run_id"]
    [asked] = planner.model.requests
    assert (asked.model, [spec.name for spec in asked.tools], asked.max_cost_usd) == ("m", ["add"], 0.5)
    assert asked.temperature == 0.25
    start = (await planner.journal.events(run_id))[0].data
    assert start["limits"] == request["limits"]
    assert start["resources"] == request["resources"]
    assert (start["mode"], start["evaluate"], start["intent_by_model"]) == ("react", request["evaluate"], False)


@pytest.mark.parametrize(
    ("limits", "field"),
    [({"max_tokens": 101}, "limits.max_tokens"), ({"max_tool_calls": 6}, "limits.max_tool_calls")],
)
async def test_more_than_the_operator_allows_is_refused(planner, limits, field):
    planner.bounds = Bounds(Limits(max_tokens=100, max_tool_calls=5), 1_000)
    async with planner.client() as client:
        answer = await client.post("/plan", json={"prompt": "do", "limits": limits})
        document = (await client.get("/openapi.json")).json()
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    described = document["components"]["schemas"]["LimitsBody"]["properties"]
    assert (described["max_tokens"]["maximum"], described["max_tool_calls"]["maximum"]) == (100, 5)


async def test_null_is_as_good_as_absent(planner):
    names = ("session_id", "persona", "model", "tools")
    limits = dict.fromkeys(("max_steps", "timeout_s", "max_cost_usd"))
    async with planner.client() as client:
        answer = await client.post("/plan", json={"prompt": "hi", "limits": limits, **dict.fromkeys(names)})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (UnavailableError("the gateway is away", retry_after_s=3), 503, "3"),
        (ResourceExhaustedError("slow down", retry_after_s=20.5), 429, "21"),
        (DeadlineExceededError("too slow"), 504, None),
        (FailedPreconditionError("no key"), 412, None),
        (UnknownModelError("there is no model 'm'", field="model"), 422, None),
    ],
)
async def test_a_run_that_fails_is_a_problem_with_its_id_and_recorded_with_its_reason(
    planner, error, status, retry_after
):
    planner.model = ScriptedModel(error)
    async with planner.client() as client:
        problem = assert_problem(answer := await client.post("/plan", json={"prompt": "hi", "model": "m"}), status)
        recorded = (await client.get(f"/runs/{problem['run_id']}")).json()
    assert answer.headers.get("retry-after") == retry_after
    assert (recorded["status"], recorded["error"], recorded["trace_id"]) == (
        "failed",
        error.message,
        problem["trace_id"],
    )
    assert problem["detail"] == error.message


@pytest.mark.parametrize("error", [KeyError("secret"), InternalError("secret"), TimeoutError("secret")])
async def test_a_fault_of_ours_is_told_without_detail(planner, error, caplog):
    planner.model = ScriptedModel(error)
    async with planner.client() as client:
        answer = await client.post("/plan", json={"prompt": "hi"})
        problem = assert_problem(answer, 500)
        recorded = (await client.get(f"/runs/{problem['run_id']}")).json()
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert recorded["status"] == "failed"


async def test_what_does_not_exist_is_named(planner):
    planner.model = ScriptedModel(UnknownModelError("there is no model 'nix'", field="model"), repeat_last=True)
    async with planner.client() as client:
        for name, value, field in [
            ("tools", ["add", "nix"], "tools[1]"),
            ("persona", "nix", "persona"),
            ("model", "nix", "model"),
        ]:
            problem = assert_problem(await client.post("/plan", json={"prompt": "hi", name: value}), 422)
            assert [fault["field"] for fault in problem["errors"]] == [field]
            assert "nix" in problem["detail"]
            assert problem["run_id"]


async def test_memory_and_sandbox_away_are_told_in_the_answer(planner):
    planner.memory.away = planner.tools.away = UnavailableError("away")
    async with planner.client() as client:
        answer = await client.post("/plan", json={"prompt": "hi"})
    assert (answer.status_code, sorted(answer.json()["degraded"])) == (200, ["memory", "sandbox"])


async def test_more_runs_than_are_allowed_are_shed(planner):
    planner.model = model = WaitingModel(saying("done"))
    planner.max_concurrent = 1
    async with planner.client() as client:
        first = asyncio.create_task(client.post("/plan", json={"prompt": "first"}))
        await model.asked.wait()
        answer = await client.post("/plan", json={"prompt": "second"})
        problem = assert_problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
        assert "MAX_CONCURRENT_REQUESTS" in problem["detail"]
        assert "run_id" not in problem
        model.go.set()
        assert (await first).json()["result"] == "done"
        assert len((await client.get("/runs")).json()["runs"]) == 1
        assert (await client.post("/plan", json={"prompt": "third"})).status_code == 200


async def test_a_client_that_leaves_does_not_end_the_run(planner):
    planner.model = model = WaitingModel(saying("done"))
    async with planner.client() as client:
        asking = asyncio.create_task(client.post("/plan", json={"prompt": "hi"}))
        await model.asked.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        [listed] = (await client.get("/runs")).json()["runs"]
        assert listed["status"] == "running"
        shown = (await client.get(f"/runs/{listed['run_id']}")).json()
        assert (shown["status"], shown["result"], shown["ended_at"]) == ("running", "", None)
        model.go.set()
        async with asyncio.timeout(5):
            while planner.runs.active:
                await asyncio.sleep(0.001)
        assert (await client.get(f"/runs/{listed['run_id']}")).json()["result"] == "done"


class TestIdempotencyKey:
    async def test_the_same_request_is_the_same_run(self, planner):
        async with planner.client(headers={"Idempotency-Key": "k"}) as client:
            first, second = [await client.post("/plan", json={"prompt": "hi"}) for _ in range(2)]
            aliased = await client.post("/run", json={"prompt": "hi"})
        assert first.json() == second.json() == aliased.json()
        assert len(planner.model.requests) == 1

    async def test_another_request_is_refused(self, planner):
        async with planner.client(headers={"Idempotency-Key": "k"}) as client:
            await client.post("/plan", json={"prompt": "hi"})
            for body in ({"prompt": "ho"}, {"prompt": "hi", "session_id": "s"}, {"prompt": "hi", "tools": []}):
                problem = assert_problem(await client.post("/plan", json=body), 422)
                assert problem["errors"][0]["field"] == "Idempotency-Key"

    async def test_a_failed_run_fails_the_same_way_for_each(self, planner):
        async with planner.client(headers={"Idempotency-Key": "k"}) as client:
            first, second = [await client.post("/plan", json={"prompt": "hi", "tools": ["nix"]}) for _ in range(2)]
        assert assert_problem(first, 422)["errors"] == assert_problem(second, 422)["errors"]
        assert first.json()["run_id"] == second.json()["run_id"]

    @pytest.mark.parametrize("key", ["", "x" * 256])
    async def test_a_key_that_is_none_is_refused(self, planner, key):
        async with planner.client() as client:
            answer = await client.post("/plan", json={"prompt": "hi"}, headers={"Idempotency-Key": key})
        assert assert_problem(answer, 422)["errors"][0]["field"] == "Idempotency-Key"

    async def test_without_a_key_each_request_is_a_run(self, planner):
        async with planner.client() as client:
            ids = {(await client.post("/plan", json={"prompt": "hi"})).json()["run_id"] for _ in range(3)}
        assert len(ids) == 3
