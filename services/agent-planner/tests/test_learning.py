"""What memory learns from runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from pagi_chassis.errors import UnavailableError
from pagi_planner import Agent, Limits, RunRequest
from pagi_planner.domain.after.learning import Teacher
from pagi_planner.domain.model import Passage, ToolOutcome
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.lesson import Account, Lesson, LessonStep, Trial
from pagi_planner.testing import (
    InMemoryMemory,
    RecordingTools,
    ScriptedModel,
    SteppingClock,
    call,
    calling,
    saying,
)

ADD, BAD = call("add", {"a": 1, "b": 2}), call("bad", {})
GIVEN = Passage("p7", "Task: add", 0.4, "Mind-KB", "playbook:p7")
OTHER = Passage("d", "text", 0.9, "Domain-KB", "playbook:not-one.md")


class RecordingMind:
    def __init__(self) -> None:
        self.lessons: list[Lesson] = []
        self.trials: list[Trial] = []
        self.accounts: list[Account] = []

    async def record(self, accounts: Sequence[Account]) -> Sequence[str]:
        self.accounts += accounts
        self.lessons += [account.lesson for account in accounts if account.lesson]
        self.trials += [account.trial for account in accounts if account.trial]
        return ["refused" if account.run_id == "bad" else "" for account in accounts]


class VersionedTools(RecordingTools):
    async def specs(self):
        return tuple(replace(spec, version=f"{spec.name}-1") for spec in await super().specs())


async def learned(*script, passages=(), limits: Limits | None = None) -> RecordingMind:
    journal, mind = ListJournal(), RecordingMind()
    tools = VersionedTools(
        {
            "add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]}),
            "bad": lambda _: ToolOutcome("failed", error="no"),
        }
    )
    agent = Agent(
        ScriptedModel(*script),
        tools=tools,
        journal=journal,
        memory=InMemoryMemory(passages=passages),
        clock=SteppingClock(),
    )
    teacher = Teacher(agent, mind)
    request = RunRequest("Add 1 and 2", "s", limits=limits or Limits())
    if isinstance(script[-1], Exception):
        with pytest.raises(type(script[-1])):
            await agent.run(request, run_id="r")
    else:
        await agent.run(request, run_id="r")
    ends = [event for event in await journal.events("r") if event.type is EventType.PLAN_END]
    # In this process, and in one that knows of the run from its journal alone.
    await teacher.deliver(ends)
    in_process = list(mind.accounts)
    await Teacher(Agent(ScriptedModel(), journal=journal), mind).deliver(ends)
    assert [(each.lesson, each.trial) for each in mind.accounts[len(in_process) :]] == [
        (each.lesson, each.trial) for each in in_process
    ]
    return mind


async def test_a_run_that_succeeded_with_tools_teaches_the_steps_that_mattered():
    mind = await learned(calling(BAD, ADD, cost_usd=0.25), calling(call("add", {"a": 1, "b": 2}, "again")), saying("3"))
    lesson = mind.lessons[0]
    assert lesson.steps == (LessonStep("add", '{"a": 1, "b": 2}', '{"sum": 3}'),)
    assert (lesson.run_id, lesson.persona, lesson.prompt) == ("r", "", "Add 1 and 2")
    assert (lesson.tool_versions, lesson.cost_usd) == ({"add": "add-1"}, 0.25)
    assert lesson.duration_ms > 0
    assert mind.trials == []


@pytest.mark.parametrize(
    "script",
    [(saying("3"),), (calling(BAD), saying("sorry")), (calling(ADD), UnavailableError("away"))],
    ids=["no tool", "no tool that worked", "failed"],
)
async def test_other_runs_teach_nothing(script):
    assert (await learned(*script)).lessons == []


@pytest.mark.parametrize(
    ("script", "limits", "succeeded"),
    [
        ((saying("3"),), None, True),
        ((calling(ADD), saying("3")), None, True),
        ((calling(BAD), saying("sorry")), None, False),
        ((calling(ADD),), Limits(max_steps=1), False),
    ],
)
async def test_the_end_of_a_run_counts_for_the_playbooks_that_it_was_given(script, limits, succeeded):
    mind = await learned(*script, passages=[GIVEN, OTHER], limits=limits)
    assert set(mind.trials) == {Trial("r", ("p7",), succeeded)}


async def test_a_lesson_comes_before_the_count_so_that_a_playbook_that_worked_is_brought_up_to_date():
    mind = await learned(calling(ADD), saying("3"), passages=[GIVEN])
    assert (type(mind.accounts[0].lesson), type(mind.accounts[0].trial)) == (Lesson, Trial)


async def test_many_runs_are_told_of_at_once_without_a_look_at_their_journals_and_a_refusal_is_its_own():
    class Unreadable(ListJournal):
        async def events(self, run_id, **_):
            raise AssertionError("the run has told of itself")

    mind, journal = RecordingMind(), Unreadable()
    tools = VersionedTools({"add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]})})
    agent = Agent(ScriptedModel(*[calling(ADD), saying("3")] * 3), tools=tools, journal=journal)
    teacher = Teacher(agent, mind)
    for run_id in ("good", "bad", "plain"):
        await agent.run("Add 1 and 2", run_id=run_id)
    ends = [events[-1] for events in journal._events.values()]
    assert await teacher.deliver(ends) == ["", "refused", ""]
    assert [account.run_id for account in mind.accounts] == ["good", "bad", "plain"]
    assert agent.parts.accounts.of("good") is None, "what was told is not kept"


async def test_an_outage_counts_for_nobody():
    mind = await learned(UnavailableError("away"), passages=[GIVEN])
    assert mind.trials == []
