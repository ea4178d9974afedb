"""The loop where something goes wrong in the middle: the journal, the time, a tool, a model that errs."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from pagi_chassis import errors
from pagi_planner import Agent, Limits, Policy, RunRequest, RunStatus
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.model import Effects, ToolOutcome
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import FINAL, EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.testing import (
    InMemoryMemory,
    RecordingTools,
    ScriptedModel,
    call,
    calling,
    saying,
)

LOOK = call("look", {})


class JournalOfSyncs(ListJournal):
    """Counts syncs; one of them can fail, or wait."""

    def __init__(self, *, fails_at: int = 0, waits_at: int = 0) -> None:
        super().__init__()
        self.syncs = 0
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self._fails_at = fails_at
        self._waits_at = waits_at

    async def sync(self, run_id: str) -> None:
        self.syncs += 1
        if self.syncs == self._waits_at:
            self.waiting.set()
            await self.go.wait()
        if self._fails_at and self.syncs >= self._fails_at:
            raise JournalError("the disk is full")


def looking() -> RecordingTools:
    return RecordingTools({"look": lambda _: ToolOutcome("ok", {"seen": 1})})


async def kinds(agent: Agent, run_id: str = "r") -> list[EventType]:
    return [event.type for event in await agent.journal.events(run_id)]


@pytest.mark.parametrize("fails_at", range(1, 6))
async def test_a_journal_that_fails_stops_the_run_before_the_next_effect(fails_at):
    # Syncs: begin, first question, tools, second question, end.
    model, tools, memory = ScriptedModel(calling(LOOK), saying("done")), looking(), InMemoryMemory()
    agent = Agent(model, tools=tools, memory=memory, journal=JournalOfSyncs(fails_at=fails_at))
    with pytest.raises(JournalError, match="disk is full"):
        await agent.run(RunRequest("look", "s"), run_id="r")
    assert len(model.requests) == [0, 0, 1, 1, 2][fails_at - 1]
    assert len(tools.executed) == (fails_at > 3)
    assert memory.exchanges == {}


async def test_time_that_ends_while_the_end_is_written_makes_no_second_end():
    journal = JournalOfSyncs(waits_at=3)
    agent = Agent(ScriptedModel(saying("done")), journal=journal)
    running = asyncio.create_task(agent.run(RunRequest("x", limits=Limits(timeout_s=0.05)), run_id="r"))
    await journal.waiting.wait()
    async with asyncio.timeout(5):
        result = await running
    assert (result.status, result.result) == (RunStatus.COMPLETED, "done")
    assert [kind in FINAL for kind in await kinds(agent)].count(True) == 1


@pytest.mark.parametrize("waits_at", [1, 2, 3])
async def test_a_run_that_is_cancelled_anywhere_has_one_end(waits_at):
    journal = JournalOfSyncs(waits_at=waits_at)
    agent = Agent(ScriptedModel(saying("done")), journal=journal)
    running = asyncio.create_task(agent.run("x", run_id="r"))
    await journal.waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    ends = [kind for kind in await kinds(agent) if kind in FINAL]
    # Whoever has noted its end has ended, whether or not somebody waits for the disk.
    assert ends == [EventType.PLAN_END if waits_at == 3 else EventType.PLAN_CANCELLED]


async def test_a_cancelled_run_stays_cancelled_where_the_journal_fails(caplog):
    journal = JournalOfSyncs(waits_at=2, fails_at=3)
    running = asyncio.create_task(Agent(ScriptedModel(), journal=journal).run("x"))
    await journal.waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "the disk is full" in caplog.text


async def test_a_timeout_of_the_models_own_is_no_limit_of_the_run():
    agent = Agent(ScriptedModel(TimeoutError("its own")))
    with pytest.raises(TimeoutError):
        await agent.run("x", run_id="r")
    assert (await kinds(agent))[-1] is EventType.PLAN_ERROR


async def test_a_tool_that_breaks_ends_the_others_before_the_run_fails():
    class Tools(RecordingTools):
        def __init__(self) -> None:
            super().__init__({"slow": None, "broken": None})
            self.ended = ""

        async def execute(self, call, **_):
            if call.name == "broken":
                raise KeyError("secret")
            try:
                await asyncio.Event().wait()
            finally:
                self.ended = call.name

    tools = Tools()
    agent = Agent(ScriptedModel(calling(call("slow", {}), call("broken", {}))), tools=tools)
    with pytest.raises(KeyError):
        await agent.run("x", run_id="r")
    assert tools.ended == "slow"
    assert (await kinds(agent))[-1] is EventType.PLAN_ERROR


@pytest.mark.parametrize(
    ("error", "verdict", "degraded"),
    [
        (errors.NotFoundError("gone"), "invalid", ()),
        (errors.InvalidArgumentError("bad"), "invalid", ()),
        (errors.FailedPreconditionError("no"), "invalid", ()),
        (errors.ResourceExhaustedError("busy"), "unavailable", ("sandbox",)),
        (errors.UnavailableError("away"), "unknown", ("sandbox",)),
        (errors.DeadlineExceededError("late"), "unknown", ("sandbox",)),
        (errors.InternalError("broken"), "unknown", ("sandbox",)),
        (errors.CancelledByCallerError("stopped"), "unknown", ("sandbox",)),
    ],
)
async def test_what_is_known_of_an_effectful_call_that_failed(error, verdict, degraded):
    tools = RecordingTools({"look": lambda _: error}, effects=Effects.EFFECTFUL)
    agent = Agent(ScriptedModel(calling(LOOK), saying("ok")), tools=tools)
    result = await agent.run("x", run_id="r")
    [failed] = [event for event in await agent.journal.events("r") if event.type is EventType.TOOL_ERROR]
    assert (failed.data["verdict"], result.degraded) == (verdict, degraded)
    assert error.message in result.steps[0].error


async def test_calls_without_an_id_of_their_own_get_one_and_each_is_answered():
    calls = [call("look", {"n": n}, call_id) for n, call_id in enumerate(["", "same", "same", "call-1-0", ""])]
    # An empty id, since the fake makes one where none is given.
    calls = [
        type(each)("" if each.id.startswith("call-look") else each.id, each.name, each.arguments_json) for each in calls
    ]
    model = ScriptedModel(calling(*calls), saying("done"))
    result = await Agent(model, tools=looking()).run("x")
    *_, asked = [message for message in model.requests[1].messages if message.tool_calls]
    ids = [each.id for each in asked.tool_calls]
    assert len(set(ids)) == 5
    assert "" not in ids
    assert [message.tool_call_id for message in model.requests[1].messages if message.tool_call_id] == ids
    assert len(result.steps) == 5


async def test_a_call_without_a_name_is_told_to_the_model():
    model = ScriptedModel(calling(call("", "{}", "c")), saying("sorry"))
    result = await Agent(model, tools=looking()).run("x")
    assert result.steps[0].tool == "unnamed"
    assert "there is no tool named" in result.steps[0].error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"a": NaN}', "NaN is not a JSON value"),
        ("[" * 100_000, "nested deeper"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper"),
        ('{"a": ' + "9" * 5_000 + "}", "not JSON"),
    ],
)
async def test_arguments_that_no_store_would_take_are_refused(arguments, said):
    tools = looking()
    result = await Agent(ScriptedModel(calling(call("look", arguments, "c")), saying("ok")), tools=tools).run("x")
    assert said in result.steps[0].error
    assert tools.executed == []


async def test_half_a_surrogate_pair_in_arguments_does_no_harm():
    result = await Agent(
        ScriptedModel(calling(call("look", r'{"q":"\ud83d"}', "c")), saying("ok")), tools=looking()
    ).run("x")
    assert result.steps[0].input == {"q": "?"}


async def test_a_fault_in_storing_history_does_not_cost_the_answer(caplog):
    class Broken(InMemoryMemory):
        async def remember(self, exchange):
            raise ValueError("no such role")

    agent = Agent(ScriptedModel(saying("the answer")), memory=Broken())
    result = await agent.run("x")
    assert (result.result, result.degraded) == ("the answer", ("memory",))
    assert "no such role" in caplog.text
    assert result.run_id not in agent.parts.remembered


async def test_memory_that_hangs_while_storing_costs_a_bounded_time():
    class Hanging(InMemoryMemory):
        async def remember(self, exchange):
            await asyncio.Event().wait()

    agent = Agent(ScriptedModel(saying("the answer")), memory=Hanging(), policy=Policy(remember_timeout_s=0.01))
    async with asyncio.timeout(5):
        assert (await agent.run("x")).degraded == ("memory",)


async def test_a_poor_answer_stays_where_no_step_is_left_to_better_it():
    model = ScriptedModel(saying(""))
    result = await Agent(model).run(RunRequest("x", limits=Limits(max_steps=1)))
    assert (result.status, result.result) == (RunStatus.COMPLETED, "The model gave no answer.")


async def test_a_failed_run_is_logged_and_names_the_field(caplog):
    caplog.set_level(logging.WARNING)
    agent = Agent(ScriptedModel(), tools=looking())
    with pytest.raises(errors.InvalidArgumentError):
        await agent.run(RunRequest("x", tools=("nix",)), run_id="r")
    assert (await agent.journal.events("r"))[-1].data["field"] == "tools[0]"
    assert "there is no tool named 'nix'" in caplog.text


async def test_a_run_without_a_session_gets_one():
    first, second = [await Agent(ScriptedModel(saying("a"))).run(goal) for goal in ("x", RunRequest("x"))]
    assert first.session_id.startswith("session-")
    assert first.session_id != second.session_id


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_steps", [0, -1]),
        ("timeout_s", [0, -1, float("inf"), float("nan")]),
        ("max_cost_usd", [0, -1, float("inf"), float("nan")]),
    ],
)
def test_limits_that_bound_nothing_are_refused(field, values):
    for value in values:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            Limits(**{field: value})
        assert caught.value.field == f"limits.{field}"


async def test_what_goes_into_the_history_is_bounded():
    long = "x" * 50_000
    tools = RecordingTools({"look": lambda _: ToolOutcome("ok", {"text": long})})
    turns = [calling(*(call("look", {"n": f"{turn}/{n}"}) for n in range(60))) for turn in range(3)]
    memory = InMemoryMemory()
    agent = Agent(ScriptedModel(*turns, saying("y" * 2_000_000)), tools=tools, memory=memory)
    result = await agent.run("x", run_id="r")
    exchange = memory.exchanges["r"]
    assert len(result.result) == 2_000_000
    assert len(exchange.turns) == 202
    assert sum(len(turn.text) for turn in exchange.turns) < 2_000_000
    assert json.loads(exchange.turns[-3].text.split(" ", 1)[1]) == {"n": "2/59"}


async def test_the_fold_of_half_a_journal_is_the_state_at_that_point():
    agent = Agent(ScriptedModel(calling(LOOK), saying("done")), tools=looking())
    await agent.run("x", run_id="r")
    events = await agent.journal.events("r")
    for count in range(1, len(events)):
        state = RunState.of(events[:count])
        assert (state.seq, state.status, state.is_final) == (count, RunStatus.RUNNING, False)
        assert state.result().ended_at is None
