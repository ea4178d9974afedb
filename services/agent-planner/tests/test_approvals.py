"""A person's word counts for one call and no other, whatever ids models give, planners die of and clients repeat."""

from __future__ import annotations

import asyncio

import pytest
from pagi.agent.v1 import agent_pb2 as pb
from pagi.agent.v1 import agent_pb2_grpc
from pagi_chassis.errors import InvalidArgumentError, UnavailableError
from pagi_chassis.testing import serving
from pagi_planner import Agent, Policy, RunRequest, RunStatus
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import Decision, Effects, ToolCall, ToolOutcome
from pagi_planner.domain.tools.delegate import Delegate, child_id
from pagi_planner.domain.tools.turn import LONGEST_ID, distinct
from pagi_planner.servicer import SERVICE, AgentServicer
from pagi_planner.testing import RecordingTools, ScriptedModel, call, calling, saying

HI = RunRequest("hi", "s")


class Held(RecordingTools):
    """The first call hangs, until another planner makes it again."""

    def __init__(self, **kwargs) -> None:
        super().__init__({name: lambda x: ToolOutcome("ok", {"did": x}) for name in ("look", "pay")}, **kwargs)
        self.begun, self.hangs = asyncio.Event(), True

    async def execute(self, made, **kwargs):
        if self.hangs:
            self.begun.set()
            await asyncio.Event().wait()
        return await super().execute(made, **kwargs)


async def cut_off_in_its_first_call(journal: SqliteJournal, model: ScriptedModel, tools: Held) -> Runs:
    """Leaves the run `r` as the death of its planner does; returns the runs of the next planner."""
    dead = Runs(Agent(model, tools=tools, journal=journal), journal, max_concurrent=5)
    await dead.begin(HI, run_id="r")
    await tools.begun.wait()
    await dead.stop(0)
    tools.hangs = False
    return Runs(Agent(model, tools=tools, journal=journal), journal, max_concurrent=5)


async def test_a_later_call_with_the_id_of_one_that_was_cut_off_has_not_been_begun(journal: SqliteJournal):
    model = ScriptedModel(calling(call("pay", {"n": 1}, "0")), calling(call("pay", {"n": 2}, "0")), saying("paid"))
    runs = await cut_off_in_its_first_call(journal, model, Held(effects=Effects.EFFECTFUL))
    await runs.recover()
    first, second = (await runs.settled("r")).steps
    assert "outcome is unknown" in first.error
    assert second.output == {"did": {"n": 2}}


async def test_a_later_call_with_the_id_of_one_that_was_cut_off_needs_its_own_word(journal: SqliteJournal):
    tools = Held(effects=Effects.EFFECTFUL, need_approval={"pay"})
    tools.know_effects = True
    model = ScriptedModel(calling(call("look", {}, "0")), calling(call("pay", {}, "0")), saying("done"))
    runs = await cut_off_in_its_first_call(journal, model, tools)
    # So it is not known any more which tools need a word.
    tools.away = UnavailableError("the sandbox is away")
    await runs.recover()
    await runs.settled("r")
    assert [made.name for made, _ in tools.executed] == ["look"]


async def test_a_word_that_is_repeated_is_not_one_on_a_later_call_with_the_same_id(journal: SqliteJournal):
    tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", x)}, need_approval={"pay"})
    model = ScriptedModel(calling(call("pay", {"n": 1}, "0")), calling(call("pay", {"n": 999}, "0")), saying("paid"))
    runs = Runs(Agent(model, tools=tools, journal=journal), journal, max_concurrent=5)
    begun = await runs.begin(HI)
    await begun.result()
    for _ in range(2):
        await runs.decide(begun.run_id, "0", Decision(True))
        waiting = await runs.settled(begun.run_id)
    assert waiting.status is RunStatus.WAITING_APPROVAL
    assert [made.arguments_json for made, _ in tools.executed] == ['{"n": 1}']
    await runs.decide(begun.run_id, waiting.approvals[-1].call_id, Decision(True))
    assert (await runs.settled(begun.run_id)).result == "paid"
    assert len(tools.executed) == 2


@pytest.mark.parametrize("given", ["", "a/b", "..", "a\nb", "\ud800", "x" * (LONGEST_ID + 1)])
def test_every_call_can_be_named_in_a_path(given):
    [named] = distinct([ToolCall(given, "pay", "{}")], 3)
    assert named.id == "call-3-0"


@pytest.mark.parametrize("pattern", ["pay", "*"])
async def test_a_helper_asks_nobody_for_a_word(journal: SqliteJournal, pattern):
    tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", x)}, effects=Effects.EFFECTFUL)
    hand_on = calling(call("delegate", {"task": "pay it"}, "c"))
    model = ScriptedModel(hand_on, calling(call("pay", {}, "d")), saying("you have to pay"), saying("done"))
    delegate = Delegate()
    policy = Policy(approval_tools=(pattern,))
    agent = Agent(model, tools=tools, journal=journal, own_tools=[delegate], policy=policy)
    delegate.children = runs = Runs(agent, journal, max_concurrent=5)
    begun = await runs.begin(HI, run_id="p")
    if (await begun.result()).approvals:
        await runs.decide("p", "c", Decision(True))
    result = await runs.settled("p")
    child = await runs.get(child_id("p/1/0"))
    assert (result.result, child.result, tools.executed) == ("done", "you have to pay", [])
    assert child.steps[0].error == "there is no tool named 'pay'; the tools are: " + (
        "delegate" if pattern == "pay" else "none"
    )


async def test_a_tool_that_came_to_need_a_word_is_refused_to_a_helper(journal: SqliteJournal):
    tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", x)}, need_approval={"pay"})
    model = ScriptedModel(calling(call("pay", {}, "d")), saying("you have to pay"))
    runs = Runs(Agent(model, tools=tools, journal=journal), journal, max_concurrent=5)
    child = RunRequest("pay it", "s", tools=("pay",), parent_run_id="p", depth=1)
    result = await (await runs.begin(child)).result()
    assert (result.result, tools.executed) == ("you have to pay", [])
    assert "needs a person's word, for which a helper cannot ask" in result.steps[0].error


NO_ARGUMENTS = ['{"a": 1e999}', '{"a": NaN}', '{"a": "\\ud800"}', '{"a": ' * 150 + "1" + "}" * 150]


@pytest.fixture
async def waiting(planner) -> str:
    """A run of the planner with the call `c` that waits."""
    planner.tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", x)}, need_approval={"pay"})
    planner.model = ScriptedModel(calling(call("pay", {"n": 1}, "c")), saying("paid"))
    begun = await planner.runs.begin(HI)
    await begun.result()
    return begun.run_id


@pytest.mark.parametrize("arguments", NO_ARGUMENTS)
async def test_arguments_that_no_tool_can_be_given_are_refused_over_http(planner, waiting, arguments):
    async with planner.client() as client:
        answer = await client.post(
            f"/runs/{waiting}/approvals/c",
            content=f'{{"decision": "approve", "arguments": {arguments}}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422
        shown = (await client.get(f"/runs/{waiting}")).json()
    assert (shown["status"], shown["approvals"][0]["decision"]) == ("waiting_approval", None)


@pytest.mark.parametrize("arguments", [*NO_ARGUMENTS, "[1]", "{", "[" * 100_000])
async def test_and_over_grpc(planner, waiting, arguments):
    servicer = AgentServicer(planner.runs, planner.bounds)
    async with serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as client:
        decide = agent_pb2_grpc.AgentStub(client.channel).Decide
        for approved in (True, False):
            asked = pb.DecideRequest(run_id=waiting, call_id="c", approved=approved, arguments_json=arguments)
            with pytest.raises(InvalidArgumentError, match="arguments_json: ") as caught:
                await client.call(decide, asked, timeout_s=10)
            assert caught.value.field == "arguments_json"
    assert (await planner.runs.get(waiting)).approvals[0].decision is None


async def test_the_same_word_is_one_whichever_way_it_comes(planner, waiting):
    servicer = AgentServicer(planner.runs, planner.bounds)
    async with (
        planner.client() as client,
        serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as other,
    ):
        word = {"decision": "approve", "arguments": {"n": "ü"}}
        assert (await client.post(f"/runs/{waiting}/approvals/c", json=word)).status_code == 200
        asked = pb.DecideRequest(run_id=waiting, call_id="c", approved=True, arguments_json='{"n":"\\u00fc"}')
        await other.call(agent_pb2_grpc.AgentStub(other.channel).Decide, asked, timeout_s=10)
    result = await planner.runs.settled(waiting)
    assert (result.result, result.steps[0].output) == ("paid", {"n": "ü"})
