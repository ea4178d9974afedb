"""Whose run it is: told by the caller over gRPC, kept with the run, and handed on with every call for it."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from pagi.agent.v1 import agent_pb2 as pb
from pagi.agent.v1 import agent_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, NotFoundError, UnavailableError
from pagi_chassis.testing import serving
from pagi_planner import Agent, RunRequest
from pagi_planner.domain.after.history import HistoryKeeper
from pagi_planner.domain.after.learning import Teacher
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.tools.delegate import Delegate
from pagi_planner.servicer import SERVICE, AgentServicer
from pagi_planner.testing import InMemoryMemory, RecordingTools, ScriptedModel, WaitingModel, call, calling, saying


class Heard:
    """By port, the tenants in whose name it was asked."""

    def __init__(self) -> None:
        self.tenants: dict[str, list[str]] = defaultdict(list)

    def note(self, port: str) -> None:
        self.tenants[port].append(correlation.current().tenant)

    def model(self, *script) -> ScriptedModel:
        heard = self

        class Model(ScriptedModel):
            async def answer(self, request):
                heard.note("model")
                return await super().answer(request)

        return Model(*script)

    def memory(self) -> InMemoryMemory:
        heard = self

        class Memory(InMemoryMemory):
            async def recall(self, request):
                heard.note("recall")
                return await super().recall(request)

            async def remember(self, exchange):
                heard.note("remember")
                await super().remember(exchange)

        return Memory()

    def tools(self, **behaviours) -> RecordingTools:
        heard = self

        class Tools(RecordingTools):
            async def execute(self, call, *, session_id, effect_id):
                heard.note("tools")
                return await super().execute(call, session_id=session_id, effect_id=effect_id)

        return Tools({"add": lambda _: ToolOutcome("ok", 3), **behaviours})

    async def record(self, accounts):
        self.tenants["mind"] += [f"{correlation.current().tenant}: {len(accounts)}"]
        return [account.run_id for account in accounts]


async def ends_of(journal, *run_ids: str):
    return [(await journal.events(run_id))[-1] for run_id in run_ids]


async def test_a_caller_over_grpc_names_it_and_every_call_for_the_run_has_it(planner):
    heard = Heard()
    planner.model = heard.model(calling(call("add", {})), saying("3"))
    planner.memory, planner.tools = heard.memory(), heard.tools()
    servicer = AgentServicer(planner.runs, planner.bounds)
    async with serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as client:
        run = agent_pb2_grpc.AgentStub(client.channel).Run
        asked = pb.RunRequest(run_id="r", prompt="1 + 2?")

        async def ask(tenant: str) -> list[pb.RunEvent]:
            with correlation.bind(tenant=tenant):
                return [told async for told in client.stream(run, asked, timeout_s=10)]

        assert (await ask("acmé"))[-1].result.result == "3"
        assert (await ask("acmé"))[-1].result.result == "3"
        with pytest.raises(InvalidArgumentError, match="another request"):
            await ask("other")
    assert heard.tenants == {"recall": ["acmé"], "model": ["acmé"] * 2, "tools": ["acmé"], "remember": ["acmé"]}
    start = (await planner.journal.events("r"))[0]
    assert start.data["tenant"] == "acmé"


async def test_a_run_that_another_process_goes_on_with_keeps_it(journal):
    first, then = Heard(), Heard()
    hanging = asyncio.Event()

    class Hanging(RecordingTools):
        async def execute(self, call, *, session_id, effect_id):
            first.note("tools")
            hanging.set()
            await asyncio.Event().wait()

    tools = Hanging({"add": lambda _: ToolOutcome("ok", 3)})
    dead = Runs(Agent(first.model(calling(call("add", {}))), tools=tools, journal=journal), journal, max_concurrent=1)
    begun = await dead.begin(RunRequest("1 + 2?", tenant="acme"))
    await hanging.wait()
    await dead.stop(0)
    agent = Agent(then.model(saying("3")), tools=then.tools(), memory=then.memory(), journal=journal)
    alive = Runs(agent, journal, max_concurrent=1)
    assert await alive.recover() == 1
    await alive.stop(5)
    assert first.tenants == {"model": ["acme"], "tools": ["acme"]}
    assert then.tenants == {"tools": ["acme"], "model": ["acme"], "remember": ["acme"]}
    assert (await journal.events(begun.run_id))[-1].type is EventType.PLAN_END


async def test_what_is_stored_and_learned_behind_a_run_is_its_tenants(journal):
    heard = Heard()
    memory = heard.memory()
    memory.away = UnavailableError("away")
    for number, tenant in enumerate(("acme", "", "acme")):
        model = ScriptedModel(calling(call("add", {})), saying("3"))
        agent = Agent(model, tools=RecordingTools({"add": lambda _: ToolOutcome("ok", 3)}), journal=journal)
        await agent.run(RunRequest("1 + 2?", f"s{number}", tenant=tenant), run_id=f"r{number}")
    memory.away = None
    ends = await ends_of(journal, "r0", "r1", "r2")
    await HistoryKeeper(Agent(ScriptedModel(), memory=memory, journal=journal)).deliver(ends)
    assert heard.tenants["remember"] == ["acme", "", "acme"]
    refusals = await Teacher(Agent(ScriptedModel(), journal=journal), heard).deliver(ends)
    assert sorted(heard.tenants["mind"]) == [": 1", "acme: 2"]
    assert refusals == ["r0", "r1", "r2"], "each by its own run"


async def test_a_task_that_is_handed_on_is_the_tenants(journal):
    heard = Heard()
    delegate = Delegate()
    model = heard.model(calling(call("delegate", {"task": "left"})), saying("did it"), saying("done"))
    agent = Agent(model, tools=heard.tools(), journal=journal, own_tools=[delegate])
    delegate.children = runs = Runs(agent, journal, max_concurrent=2)
    result = await (await runs.begin(RunRequest("x", tenant="acme"))).result()
    child = (await journal.events(result.steps[0].output["run_id"]))[0]
    assert child.data["tenant"] == "acme"
    assert heard.tenants["model"] == ["acme"] * 3


async def test_nobody_reaches_the_run_of_another_tenant(planner):
    planner.model = ScriptedModel(calling(call("pay", {}, "c")), saying("paid"))
    planner.tools = RecordingTools({"pay": lambda _: ToolOutcome("ok", 1)}, need_approval={"pay"})
    servicer = AgentServicer(planner.runs, planner.bounds)
    async with serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as client:
        stub = agent_pb2_grpc.AgentStub(client.channel)
        await (await planner.runs.begin(RunRequest("pay", tenant="acme"), run_id="r")).result()

        async def ask(tenant: str, method, request):
            with correlation.bind(tenant=tenant):
                return (await client.call(method, request, timeout_s=10)).run.status

        asked = [
            (stub.GetRun, pb.GetRunRequest(run_id="r")),
            (stub.Decide, pb.DecideRequest(run_id="r", call_id="c", approved=True)),
            (stub.Cancel, pb.CancelRequest(run_id="r")),
        ]
        for method, request in asked:
            with pytest.raises(NotFoundError, match="there is no run 'r'"):
                await ask("other", method, request)
        assert [event.type for event in await planner.journal.events("r")][-1] is EventType.APPROVAL_REQUESTED
        assert await ask("acme", *asked[0]) == "waiting_approval"
        # Who names none is the installation, as over HTTP.
        assert await ask("", *asked[0]) == "waiting_approval"
        await ask("acme", *asked[1])
        assert (await planner.runs.settled("r")).result == "paid"
        assert await ask("acme", *asked[2]) == "completed"


async def test_nor_one_that_is_in_progress(planner):
    planner.model = WaitingModel(saying("hi"))
    begun = await planner.runs.begin(RunRequest("x", tenant="acme"), run_id="r")
    await planner.model.asked.wait()
    servicer = AgentServicer(planner.runs, planner.bounds)
    async with serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as client:
        cancel, request = agent_pb2_grpc.AgentStub(client.channel).Cancel, pb.CancelRequest(run_id="r")
        with correlation.bind(tenant="other"), pytest.raises(NotFoundError):
            await client.call(cancel, request, timeout_s=10)
        assert not begun.task.done()
        with correlation.bind(tenant="acme"):
            assert (await client.call(cancel, request, timeout_s=10)).run.status == "cancelled"


async def test_over_http_nobody_names_one(planner):
    """Who has the key of the door has that of the installation: no header makes him somebody else."""
    heard = Heard()
    planner.model, planner.memory = heard.model(saying("hi")), heard.memory()
    async with planner.client() as client:
        answer = await client.post("/plan", json={"prompt": "x"}, headers={"X-Tenant": "acme"})
    assert answer.json()["result"] == "hi"
    assert heard.tenants == {"recall": [""], "model": [""], "remember": [""]}
