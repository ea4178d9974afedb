"""pagi.agent.v1.Agent over a real connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from pagi.agent.v1 import agent_pb2 as pb
from pagi.agent.v1 import agent_pb2_grpc
from pagi_chassis import deadline
from pagi_chassis.errors import InvalidArgumentError, NotFoundError, UnavailableError
from pagi_chassis.testing import serving
from pagi_planner import RunStatus
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.state.events import EventType
from pagi_planner.schemas import PlanRequest
from pagi_planner.servicer import SERVICE, AgentServicer
from pagi_planner.testing import RecordingTools, ScriptedModel, WaitingModel, call, calling, saying

PATIENCE_S = 10


@asynccontextmanager
async def agent(planner, **kwargs) -> AsyncIterator[tuple[object, agent_pb2_grpc.AgentStub]]:
    servicer = AgentServicer(planner.runs, planner.bounds, **kwargs)
    async with serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as client:
        yield client, agent_pb2_grpc.AgentStub(client.channel)


async def run(client, stub, **request) -> list[pb.RunEvent]:
    return [told async for told in client.stream(stub.Run, pb.RunRequest(**request), timeout_s=PATIENCE_S)]


def kinds(events: list[pb.RunEvent]) -> list[str]:
    return [told.journal.type if told.WhichOneof("event") == "journal" else told.WhichOneof("event") for told in events]


async def test_a_run_is_streamed_and_ends_in_the_whole_of_it(planner):
    planner.model = ScriptedModel(calling(call("add", {"a": 1, "b": 2}, "c")), saying("It is 3."))
    async with agent(planner) as (client, stub):
        events = await run(client, stub, run_id="mine", prompt="1 + 2?", session_id="s")
    assert (events[0].begun.run_id, events[0].begun.session_id) == ("mine", "s")
    journal = [kind for kind in kinds(events)[1:-1] if kind != "text_delta"]
    assert journal == [event.type for event in await planner.journal.events("mine")]
    assert "".join(told.text_delta.text for told in events) == "It is 3."
    result = events[-1].result
    assert (result.run_id, result.status, result.result, result.session_id) == ("mine", "completed", "It is 3.", "s")
    [step] = result.steps
    assert (step.tool, json.loads(step.input_json)) == ("add", {"a": 1, "b": 2})
    assert json.loads(step.output_json) == {"sum": 3}
    assert result.started_at.ToDatetime() <= step.timestamp.ToDatetime() <= result.ended_at.ToDatetime()
    assert (result.usage.input_tokens, result.usage.HasField("cost_usd")) == (20, False)
    started = json.loads(next(told.journal.data_json for told in events if told.journal.type == "PLAN_START"))
    assert started["prompt"] == "1 + 2?"


async def test_the_same_run_id_is_one_run_and_goes_on_behind_what_was_seen(planner):
    planner.model = model = WaitingModel(saying("done"))
    async with agent(planner) as (client, stub):
        request = pb.RunRequest(run_id="r", prompt="x")
        stream = client.stream(stub.Run, request, timeout_s=PATIENCE_S)
        seen = []
        async for told in stream:
            seen.append(told)
            if told.journal.type == EventType.PLAN_MODEL_REQUEST:
                break
        await stream.aclose()
        await model.asked.wait()
        model.go.set()
        rest = await run(client, stub, run_id="r", prompt="x", after=seen[-1].id)
        again = await run(client, stub, run_id="r", prompt="x")
        journal = [told.journal.seq for told in (*seen, *rest) if told.WhichOneof("event") == "journal"]
        assert journal == list(range(1, len(journal) + 1))
        assert kinds(again) == ["begun", *kinds(seen)[1:], *kinds(rest)[1:]]
        assert rest[-1].result == again[-1].result
        assert rest[-1].result.result == "done"
        with pytest.raises(InvalidArgumentError, match="another request"):
            await run(client, stub, run_id="r", prompt="y")


async def test_who_leaves_lets_the_run_go_on_or_cancels_it_as_the_request_says(planner):
    planner.model = model = WaitingModel(saying("never"))
    async with agent(planner) as (client, stub):
        for on_disconnect in ("continue", "cancel"):
            request = pb.RunRequest(run_id=on_disconnect, prompt="x", on_disconnect=on_disconnect)
            stream = client.stream(stub.Run, request, timeout_s=PATIENCE_S)
            async for told in stream:
                if told.journal.type == EventType.PLAN_MODEL_REQUEST:
                    break
            await stream.aclose()
        async with asyncio.timeout(PATIENCE_S):
            while (await planner.runs.get("cancel")).status is not RunStatus.CANCELLED:
                await asyncio.sleep(0.01)
        assert (await planner.runs.get("continue")).status is RunStatus.RUNNING
        model.go.set()


async def test_who_is_sent_away_by_a_planner_that_stops_has_not_left(planner):
    planner.model = model = WaitingModel(saying("done"))
    async with agent(planner) as (client, stub):
        request = pb.RunRequest(run_id="r", prompt="x", on_disconnect="cancel")
        stream = client.stream(stub.Run, request, timeout_s=PATIENCE_S)

        async def read() -> None:
            async for told in stream:
                if told.journal.type == EventType.PLAN_MODEL_REQUEST:
                    planner.runs.send_watchers_away("the planner stops; go on at another one")

        with pytest.raises(UnavailableError, match="go on"):
            await read()
        model.go.set()
        assert (await planner.runs.settled("r")).status is RunStatus.COMPLETED


async def test_the_callers_deadline_is_not_the_runs(planner):
    class Timed(WaitingModel):
        left_s = 0.0

        async def answer(self, request):
            self.left_s = deadline.remaining_s()
            return await super().answer(request)

        stream = None

    planner.model = model = Timed(saying("done"))
    async with agent(planner) as (client, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Run(pb.RunRequest(run_id="r", prompt="x"), timeout=0.3):
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert model.left_s > 10
        model.go.set()
        assert (await run(client, stub, run_id="r", prompt="x"))[-1].result.result == "done"


async def test_a_run_is_looked_at_decided_on_and_cancelled(planner):
    planner.model = ScriptedModel(calling(call("pay", {"n": 1}, "a")), saying("paid"))
    planner.tools = tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", x)}, need_approval={"pay"})
    async with agent(planner) as (client, stub):
        running = asyncio.create_task(run(client, stub, run_id="r", prompt="x"))

        async def ask(method, request):
            return (await client.call(method, request, timeout_s=PATIENCE_S)).run

        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if (told := await ask(stub.GetRun, pb.GetRunRequest(run_id="r"))).waiting_call_ids:
                        break
                except NotFoundError:
                    pass
                await asyncio.sleep(0.01)
        assert (told.status, list(told.waiting_call_ids)) == ("waiting_approval", ["a"])
        wrong = pb.DecideRequest(run_id="r", call_id="a", approved=True, arguments_json="[1]")
        with pytest.raises(InvalidArgumentError, match="no JSON object"):
            await ask(stub.Decide, wrong)
        await ask(stub.Decide, pb.DecideRequest(run_id="r", call_id="a", approved=True, arguments_json='{"n": 2}'))
        assert (await running)[-1].result.result == "paid"
        assert [json.loads(made.arguments_json) for made, _ in tools.executed] == [{"n": 2}]
        with pytest.raises(NotFoundError):
            await ask(stub.Cancel, pb.CancelRequest(run_id="nix"))
        planner.runs._agent.parts.model._script.append(calling(call("pay", {}, "a")))
        waiting = asyncio.create_task(run(client, stub, run_id="second", prompt="x"))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    told = await ask(stub.GetRun, pb.GetRunRequest(run_id="second"))
                    if told.waiting_call_ids:
                        break
                except NotFoundError:
                    pass
                await asyncio.sleep(0.01)
        told = await ask(stub.Cancel, pb.CancelRequest(run_id="second", reason="enough"))
        assert (told.status, told.error, list(told.waiting_call_ids)) == ("cancelled", "enough", [])
        assert (await waiting)[-1].result == told


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RunRequest(), "prompt"),
        (pb.RunRequest(prompt="x", mode="dance"), "mode"),
        (pb.RunRequest(prompt="x", limits=pb.Limits(max_steps=9_999)), "limits.max_steps"),
        (pb.RunRequest(prompt="x", limits=pb.Limits(timeout_s=float("nan"))), "limits.timeout_s"),
        (pb.RunRequest(prompt="x", session_id="a/b"), "session_id"),
        (pb.RunRequest(prompt="x", run_id="a/b"), "run_id"),
        (pb.RunRequest(prompt="x", run_id="x" * 201), "run_id"),
        (pb.RunRequest(prompt="x", files=[pb.InputFile(name="a")]), "files[0]"),
        (pb.RunRequest(prompt="x", after="rubbish"), "Last-Event-ID"),
    ],
)
async def test_a_wrong_field_is_named(planner, request_, field):
    async with agent(planner) as (client, stub):
        with pytest.raises(InvalidArgumentError) as caught:
            async for _ in client.stream(stub.Run, request_, timeout_s=PATIENCE_S):
                pass
    assert caught.value.field == field


@pytest.mark.parametrize(("run_id", "refusal"), [("", InvalidArgumentError), ("new", NotFoundError)])
async def test_who_goes_on_with_a_run_that_there_is_not_begins_none(planner, run_id, refusal):
    async with agent(planner) as (client, stub):
        with pytest.raises(refusal):
            await run(client, stub, run_id=run_id, prompt="x", after="5")
    assert (planner.runs.active, (await planner.runs.find(limit=1)).runs) == (0, [])


async def test_a_whole_request_arrives_as_it_was_sent(planner):
    async with agent(planner) as (client, stub):
        await run(
            client,
            stub,
            run_id="r",
            prompt="x",
            model="m",
            tools=pb.ToolSelection(),
            resources=[pb.Resource(type="url", uri="u")],
            limits=pb.Limits(max_steps=3, timeout_s=5, max_cost_usd=0.5, max_tool_calls=0),
            mode="plan",
            files=[pb.InputFile(name="a.txt", content=b"hi")],
            evaluate=pb.Judging(threshold=0.5),
            understand=pb.Understanding(model=False),
        )
    asked = (await planner.journal.events("r"))[0].data
    assert (asked["model"], asked["tools"], asked["mode"]) == ("m", [], "plan")
    assert asked["resources"] == [{"type": "url", "uri": "u"}]
    limits = asked["limits"]
    assert (limits["max_steps"], limits["timeout_s"], limits["max_tool_calls"]) == (3, 5.0, 0)
    assert (asked["files"][0]["name"], asked["evaluate"]["threshold"]) == ("a.txt", 0.5)


async def test_files_that_no_message_brings_back_are_left_out_of_the_stream(planner):
    files = [pb.InputFile(name=f"{n}.txt", content=b"a" * 8_000_000) for n in range(2)]
    async with agent(planner) as (client, stub):
        told = await run(client, stub, run_id="r", prompt="x", files=files)
    assert told[-1].result.status == "failed", "a text is read up to 2,000,000 characters"
    begun = next(each.journal for each in told if each.journal.type == EventType.PLAN_START)
    assert [file["content_base64"] for file in json.loads(begun.data_json)["files"]] == ["", ""]
    assert len((await planner.journal.events("r"))[0].data["files"][0]["content_base64"]) > 10_000_000


def test_a_run_can_be_asked_for_all_that_http_can_ask_for():
    fields = {field.name for field in pb.RunRequest.DESCRIPTOR.fields} - {"run_id", "after"}
    assert fields == set(PlanRequest.model_fields)


@pytest.mark.parametrize("shown", [(), (("x-api-key", "wrong"),), (("authorization", "Basic secret"),)])
async def test_without_the_key_nothing_is_told(planner, shown):
    async with agent(planner, api_key="secret") as (_, stub):
        for method, request in (
            (stub.GetRun, pb.GetRunRequest(run_id="r")),
            (stub.Cancel, pb.CancelRequest(run_id="r")),
            (stub.Decide, pb.DecideRequest(run_id="r")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(request, metadata=shown)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Run(pb.RunRequest(prompt="x"), metadata=shown):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("shown", [("x-api-key", "secret"), ("authorization", "Bearer secret")])
async def test_with_the_key_it_works(planner, shown):
    async with agent(planner, api_key="secret") as (_, stub):
        told = [told async for told in stub.Run(pb.RunRequest(prompt="x"), metadata=(shown,))]
    assert told[-1].result.result == "hello"
