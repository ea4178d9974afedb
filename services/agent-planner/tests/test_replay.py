"""What a replay repeats though it does not follow from the answers alone: the room of a window, and settings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from pagi_planner import Agent, Limits, Policy, RunRequest, RunStatus
from pagi_planner.domain.errors import EffectConflictError
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import Decision, ModelAnswer, ModelTraits, ToolOutcome, ToolSpec, Usage
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.time_travel.replay import replay
from pagi_planner.domain.tools.delegate import Delegate
from pagi_planner.testing import LoneStore, RecordingTools, ScriptedModel, WaitingModel, call, calling, saying

# What journals of earlier versions do not hold.
NEW_MEMBERS = {"tools_tokens", "room", "own_tools", "policy"}


class Window:
    """A catalogue whose every model has the same window."""

    async def traits(self, model: str) -> ModelTraits:
        return ModelTraits(context_tokens=9_000, max_output_tokens=500)


class BigTools(RecordingTools):
    """Forty tools, the schemas of which take most of the window."""

    async def specs(self) -> tuple[ToolSpec, ...]:
        schema = json.dumps({"type": "object", "properties": {f"name_{n}": {"type": "string"} for n in range(12)}})
        [look] = await super().specs()
        return (look, *(ToolSpec(f"tool_{n}", "does something " * 5, schema) for n in range(40)))


def looking() -> BigTools:
    return BigTools({"look": lambda x: ToolOutcome("ok", f"{x['n']} " + "hay " * 400)})


def looks(count: int, tokens: int = 0) -> list[ModelAnswer]:
    usage = Usage(tokens, 1 if tokens else 0)
    return [replace(calling(call("look", {"n": n}, f"c{n}")), usage=usage) for n in range(count)]


async def recorded(*script: ModelAnswer | Exception, policy: Policy | None = None, **request) -> list[Event]:
    agent = Agent(ScriptedModel(*script), tools=looking(), catalogue=Window(), policy=policy)
    await agent.run(RunRequest("Find the needle", "s", **request), run_id="r")
    return list(await agent.journal.events("r"))


def compactions(events: Sequence[Event]) -> list[str]:
    return [event.data["by"] for event in events if event.type is EventType.CONTEXT_COMPACTED]


def of_an_earlier_version(events: Sequence[Event]) -> list[Event]:
    def without(event: Event) -> dict:
        return {name: value for name, value in event.data.items() if name not in NEW_MEMBERS}

    return [replace(event, data=without(event)) for event in events]


@pytest.mark.parametrize("tokens", [0, 8_400])
async def test_a_run_that_was_compacted_for_the_room_that_its_tools_take(tokens):
    events = await recorded(*looks(9, tokens), saying("done"))
    assert compactions(events)
    assert await replay(events) is None


async def test_a_change_of_the_room_shows():
    events = await recorded(*looks(9), saying("done"))
    place = [event.type for event in events].index(EventType.CONTEXT_COMPACTED) + 1
    events[place] = replace(events[place], data={**events[place].data, "room": 100_000})
    found = await replay(events)
    assert found.recorded.type is EventType.CONTEXT_COMPACTED


async def test_a_run_whose_summaries_a_model_wrote():
    policy = Policy(compacts_by_model=True)
    script = *looks(5), saying("I looked."), *looks(7)[5:], saying("done")
    events = await recorded(*script, policy=policy)
    assert compactions(events) == ["model"]
    assert await replay(events) is None


async def test_a_run_that_was_stopped_while_a_model_wrote_the_summary():
    class Hanging(ScriptedModel):
        async def answer(self, request):
            if "compact" in request.effect_id:
                running.cancel()
                await asyncio.Event().wait()
            return await super().answer(request)

    agent = Agent(Hanging(*looks(9)), tools=looking(), catalogue=Window(), policy=Policy(compacts_by_model=True))
    running = asyncio.create_task(agent.run("Find the needle", run_id="r"))
    await asyncio.gather(running, return_exceptions=True)
    events = await agent.journal.events("r")
    assert [event.type for event in events[-2:]] == [EventType.MODEL_CALL, EventType.PLAN_CANCELLED]
    assert await replay(events) is None


async def test_a_run_whose_answers_were_sent_back_more_often_than_is_usual():
    events = await recorded(saying(""), saying(""), saying("done"), policy=Policy(max_refinements=2))
    assert events[-1].data["result"] == "done"
    assert await replay(events) is None


async def test_a_journal_of_an_earlier_version():
    events = of_an_earlier_version(await recorded(*looks(2), saying(""), saying("done")))
    assert not compactions(events)
    assert await replay(events) is None


async def test_a_run_that_handed_tasks_on_and_called_what_it_has_not():
    delegate = Delegate()
    journal = ListJournal()
    model = ScriptedModel(
        calling(call("delegate", {"task": "left"}), call("nix", {})),
        saying("did it"),
        calling(call("delegate", {"task": ""})),
        saying("done"),
    )
    agent = Agent(model, tools=looking(), journal=journal, own_tools=[delegate])
    delegate.children = runs = Runs(agent, LoneStore(journal), max_concurrent=1)
    begun = await runs.begin(RunRequest("x"))
    result = await begun.result()
    assert sorted((step.tool, bool(step.error)) for step in result.steps) == [
        ("delegate", False),
        ("delegate", True),
        ("nix", True),
    ]
    assert await replay(await journal.events(begun.run_id)) is None


async def test_a_question_that_was_asked_anew_under_another_id():
    conflict = EffectConflictError("r/1/model is another request's")
    events = await recorded(conflict, *looks(1), saying("done"))
    assert await replay(events) is None


async def test_what_ended_a_run_by_the_clock_is_not_repeated():
    model = WaitingModel(saying("never"))
    agent = Agent(model)
    result = await agent.run(RunRequest("x", limits=Limits(timeout_s=0.05)), run_id="r")
    assert result.status is RunStatus.LIMIT_TIME
    assert await replay(await agent.journal.events("r")) is None


async def test_approvals_are_given_as_they_were():
    tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", x)}, need_approval={"pay"})
    journal = ListJournal()
    agent = Agent(ScriptedModel(calling(call("pay", {}, "p")), saying("no")), tools=tools, journal=journal)
    runs = Runs(agent, LoneStore(journal), max_concurrent=1)
    begun = await runs.begin(RunRequest("x"))
    await begun.result()
    await runs.decide(begun.run_id, "p", Decision(False, "too dear"))
    await runs.stop(5)
    assert await replay(await journal.events(begun.run_id)) is None


@pytest.mark.parametrize("early", [False, True])
async def test_when_people_decided_on_the_calls_of_a_turn_is_chance(early):
    go, journal = asyncio.Event(), ListJournal()
    tools = RecordingTools({name: lambda x: ToolOutcome("ok", x) for name in ("pay", "look")}, need_approval={"pay"})
    execute = tools.execute

    async def held(made, **kwargs):
        if made.name == "look":
            await go.wait()
        return await execute(made, **kwargs)

    tools.execute = held
    pays = [call("pay", {"n": n}, f"p{n}") for n in range(3)]
    model = ScriptedModel(calling(*pays, call("look", {}, "l")), saying("done"))
    runs = Runs(Agent(model, tools=tools, journal=journal), LoneStore(journal), max_concurrent=5)
    begun = await runs.begin(RunRequest("pay and look", "s"))
    while not begun.state.intents:
        await asyncio.sleep(0)
    if not early:
        go.set()
        await begun.result()
    for number in range(3):
        # While another call of the turn is made, or one directly after the other.
        await runs.decide(begun.run_id, f"p{number}", Decision(number != 1))
    go.set()
    assert (await runs.settled(begun.run_id)).result == "done"
    assert await replay(await journal.events(begun.run_id)) is None
