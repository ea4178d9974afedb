"""Runs that hand tasks on: a tree in journal, trace, cost and cancel, bounded in depth and breadth."""

from __future__ import annotations

import asyncio
import json

import pytest
from pagi_chassis import correlation
from pagi_chassis.errors import UnavailableError
from pagi_planner import Agent, Limits, RunRequest, RunStatus
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import ModelAnswer, ToolOutcome, Usage
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.tools.delegate import Delegate, child_id
from pagi_planner.testing import RecordingTools, call, calling, saying


class Talk:
    """Answers by the prompt: "both" hands on two tasks, "deep" hands itself on, "hang" waits, others are echoed."""

    def __init__(self) -> None:
        self.asked: list = []
        self.hanging = asyncio.Event()
        self.go = asyncio.Event()

    async def answer(self, request, *args, **kwargs) -> ModelAnswer:
        self.asked.append(request)
        prompt = next(m.text for m in reversed(request.messages) if m.role == "user")
        results = [m.text for m in request.messages if m.tool_call_id]
        if results:
            return saying(f"{prompt}: {' & '.join(json.loads(text).get('result', text) for text in results)}")
        if prompt == "both":
            tasks = (call("delegate", {"task": "left"}, "l"), call("delegate", {"task": "right", "tools": []}, "r"))
            return calling(*tasks, cost_usd=0.25)
        if prompt == "deep":
            return calling(call("delegate", {"task": "deep"}, f"d-{request.effect_id}"))
        if prompt.startswith("call "):
            return calling(call("delegate", json.loads(prompt.removeprefix("call ")), "x"))
        if prompt == "broken":
            raise UnavailableError("the model is away")
        if prompt == "hang":
            self.hanging.set()
            await self.go.wait()
        return saying(f"did {prompt}", cost_usd=0.5)


class Household:
    def __init__(self, journal, **bounds) -> None:
        self.model, self.journal = Talk(), journal
        self.tools = RecordingTools(
            {name: lambda _: ToolOutcome("ok", {}) for name in ("look", "pay")}, need_approval={"pay"}
        )
        delegate = Delegate(**bounds)
        self.agent = Agent(self.model, tools=self.tools, journal=journal, own_tools=[delegate])
        self.runs = Runs(self.agent, journal, max_concurrent=1)
        delegate.children = self.runs

    async def run(self, prompt: str, **kwargs):
        return await (await self.runs.begin(RunRequest(prompt, "s", **kwargs))).result()


@pytest.fixture
def house(journal) -> Household:
    return Household(journal)


async def test_children_work_at_once_and_their_answers_come_back(house):
    with correlation.bind(trace_id="t" * 32):
        result = await house.run("both", limits=Limits(max_steps=6, max_cost_usd=9.25, max_tokens=10_000))
    assert (result.status, result.result) == (RunStatus.COMPLETED, "both: did left & did right")
    left, right = (step.output for step in result.steps)
    assert left["run_id"] == child_id(f"{result.run_id}/1/0")
    child = RunState.of(await house.journal.events(left["run_id"]))
    assert child.trace_id == "t" * 32
    assert child.request["parent_run_id"] == result.run_id
    assert child.request["workspace"] == "s" != child.session_id
    # Half of what was left when they were begun, and of it they spent half a dollar each.
    assert child.request["limits"]["max_cost_usd"] == pytest.approx(4.5)
    assert child.request["limits"]["max_steps"] == 5
    assert result.usage.cost_usd == pytest.approx(0.25 + 2 * 0.5)
    assert result.usage.input_tokens == 4 * 10
    # What needs a person's word is the parent's to call; a helper sees nothing of the conversation.
    assert child.request["tools"] == ["look", "delegate"]
    assert RunState.of(await house.journal.events(right["run_id"])).request["tools"] == []
    heard = [asked for asked in house.model.asked if asked.effect_id.startswith(left["run_id"])]
    assert heard
    assert all("both" not in message.text for asked in heard for message in asked.messages)
    spans = await house.runs.timeline(result.run_id)
    drawn = [span.detail["child_run_id"] for span in spans if span.name == "delegate"]
    assert drawn == [left["run_id"], right["run_id"]]


async def test_depth_is_bounded(house):
    result = await house.run("deep", limits=Limits(max_steps=9))
    offered = [[spec.name for spec in asked.tools] for asked in house.model.asked]
    assert offered[:3] == [["look", "pay", "delegate"], ["look", "delegate"], ["look"]]
    assert result.status is RunStatus.COMPLETED


async def test_breadth_is_bounded(journal):
    result = await Household(journal, max_children=1).run("both")
    assert sorted((step.error or "")[:30] for step in result.steps) == ["", "a run may hand on 1 tasks at m"]


async def test_nobody_delegates_where_that_is_off_or_not_asked_for(journal):
    for house, tools in ((Household(journal, max_depth=0), None), (Household(journal), ("look",))):
        await house.run("hi", tools=tools)
        assert "delegate" not in [spec.name for spec in house.model.asked[0].tools]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "task"),
        ({"task": " "}, "task"),
        ({"task": "x", "tools": "look"}, "tools must be a list"),
        ({"task": "x", "tools": ["pay"]}, "cannot have the tool 'pay'; it can have: look, delegate"),
        ({"task": "x", "nix": 1}, "'nix'"),
        ({"task": "broken"}, "failed: the model is away"),
    ],
)
async def test_what_is_wrong_is_told_to_the_model(house, arguments, said):
    result = await house.run(f"call {json.dumps(arguments)}")
    assert result.status is RunStatus.COMPLETED
    assert said in result.steps[0].error


async def test_who_cancels_the_parent_cancels_the_child(house):
    begun = await house.runs.begin(RunRequest('call {"task": "hang"}'))
    await house.model.hanging.wait()
    await house.runs.cancel(begun.run_id)
    child = await house.runs.get(child_id(f"{begun.run_id}/1/0"))
    assert (child.status, house.runs.active) == (RunStatus.CANCELLED, 0)
    assert "handed it on" in child.error


async def test_after_a_crash_the_parent_finds_the_child_that_it_has_begun(journal):
    dead = Household(journal)
    begun = await dead.runs.begin(RunRequest('call {"task": "hang"}'))
    await dead.model.hanging.wait()
    await dead.runs.stop(0)
    alive = Household(journal)
    alive.model.go.set()
    assert await alive.runs.recover() >= 1
    async with asyncio.timeout(10):
        while (result := await alive.runs.get(begun.run_id)).status is RunStatus.RUNNING:
            await asyncio.sleep(0.005)
    assert result.result.endswith("did hang")
    events = await journal.events(child_id(f"{begun.run_id}/1/0"))
    kinds = [event.type for event in events]
    assert kinds.count(EventType.PLAN_START) == kinds.count(EventType.PLAN_END) == 1
    # The parent's first call was answered before the crash: it is not asked again.
    assert f"{begun.run_id}/1/model" not in [asked.effect_id for asked in alive.model.asked]
    assert result.usage == Usage(30, 15, 0.5)


async def test_tool_calls_are_shared_with_the_children_and_counted_for_the_parent(journal):
    class Greedy:
        """The parent hands on and looks, three times; its children look as often as they may."""

        looks = 0

        async def answer(self, request, *args, **kwargs) -> ModelAnswer:
            if not request.effect_id.startswith("p/"):
                self.looks += 1
                return calling(call("look", {"n": self.looks}))
            if len(request.messages) > 8:
                return saying("done")
            return calling(
                call("delegate", {"task": request.effect_id}), call("look", {"n": request.effect_id}, request.effect_id)
            )

    house = Household(journal)
    house.agent.parts.model.answer = Greedy().answer
    begun = await house.runs.begin(RunRequest("x", limits=Limits(max_steps=50, max_tool_calls=6)), run_id="p")
    result = await begun.result()
    assert result.status is RunStatus.LIMIT_TOOL_CALLS
    assert [step.output.get("tool_calls") for step in result.steps if step.tool == "delegate"] == [4]
    assert len(house.tools.executed) + 1 == 6
