"""How a run ends is told when it is durable, and not before; a fork and a resumed run ask and count as they should.

Found by tests/chaos/test_whole_runs.py, each in its smallest form.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from pagi_chassis.errors import (
    CancelledByCallerError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from pagi_planner import Agent, RunRequest, RunStatus
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.adapters.sqlite_tables import CLAIM
from pagi_planner.domain.errors import EffectConflictError, JournalError
from pagi_planner.domain.keeping import workshop
from pagi_planner.domain.keeping.begun_run import BegunRun
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import (
    Decision,
    Effects,
    Limits,
    ModelRequest,
    ModelTraits,
    RunResult,
    ToolOutcome,
)
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.standalone import ListJournal, SystemClock
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.time_travel.fork import Change
from pagi_planner.domain.time_travel.replay import replay
from pagi_planner.domain.tools.delegate import Delegate, child_id
from pagi_planner.domain.tools.turn import execute
from pagi_planner.testing import LoneStore, RecordingTools, ScriptedModel, WaitingModel, call, calling, saying

HI = RunRequest("hi", "s")


class SlowJournal(ListJournal):
    """What is appended is durable when the gate is open; only that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.durable: dict[str, int] = {}

    async def sync(self, run_id: str) -> None:
        await self.gate.wait()
        self.durable[run_id] = len(self._events[run_id])

    async def events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        return [each for each in await super().events(run_id, after=after) if each.seq <= self.durable[run_id]][:limit]


def slow_runs(model) -> tuple[Runs, SlowJournal]:
    journal = SlowJournal()
    return Runs(Agent(model, journal=journal), LoneStore(journal), max_concurrent=5), journal


@pytest.fixture(autouse=True)
async def nothing_goes_on() -> AsyncIterator[None]:
    """A test that fails leaves runs at work."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(3):
        for task in left:
            task.cancel()
        await turns()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_whoever_cancels_a_second_time_waits_until_the_end_is_durable():
    runs, journal = slow_runs(model := WaitingModel(saying("never")))
    begun = await runs.begin(HI)
    await model.asked.wait()
    journal.gate.clear()
    both = []
    for _ in range(2):
        both.append(asyncio.create_task(runs.cancel(begun.run_id)))
        await turns()
    assert not any(each.done() for each in both), "the journal does not know of it yet"
    journal.gate.set()
    assert [(await each).status for each in both] == [RunStatus.CANCELLED] * 2
    assert (await journal.events(begun.run_id))[-1].type is EventType.PLAN_CANCELLED


async def test_cancelled_on_its_last_step_a_run_is_told_to_have_ended_when_that_is_durable():
    runs, journal = slow_runs(model := WaitingModel(saying("done")))
    begun = await runs.begin(HI)
    asking = asyncio.create_task(begun.result())
    await model.asked.wait()
    journal.gate.clear()
    model.go.set()
    async with asyncio.timeout(5):
        while not begun.run.state.is_final:
            await asyncio.sleep(0)
    cancelling = asyncio.create_task(runs.cancel(begun.run_id))
    await turns()
    assert not cancelling.done(), "the journal does not know of the end yet"
    journal.gate.set()
    assert (await cancelling).status is RunStatus.COMPLETED
    assert (await asking).result == "done", "who began it is told the same"


async def test_a_planner_that_has_lost_a_run_does_not_say_that_it_is_cancelled(journal: SqliteJournal):
    runs = Runs(Agent(model := WaitingModel(saying("never")), journal=journal), journal, max_concurrent=5)
    begun = await runs.begin(HI)
    await model.asked.wait()
    await journal._writing().ask([(CLAIM, ("another", begun.run_id))])
    result = await runs.cancel(begun.run_id)
    assert result.status is RunStatus.CANCELLED
    assert (await journal.events(begun.run_id))[-1].type is EventType.PLAN_CANCELLED, "as whoever has it says"


async def test_the_same_word_given_twice_is_taken_when_it_is_durable():
    tools = RecordingTools({name: lambda x: ToolOutcome("ok", x) for name in ("pay", "look")}, need_approval={"pay"})
    go, journal = asyncio.Event(), SlowJournal()
    execute = tools.execute

    async def held(made, **kwargs):
        await go.wait()
        return await execute(made, **kwargs)

    tools.execute = held
    model = ScriptedModel(calling(call("pay", {}, "a"), call("look", {}, "b")), saying("paid"))
    runs = Runs(Agent(model, tools=tools, journal=journal), LoneStore(journal), max_concurrent=5)
    begun = await runs.begin(HI)
    async with asyncio.timeout(5):
        while not begun.state.intents:
            await asyncio.sleep(0)
    await turns()
    journal.gate.clear()
    both = []
    for _ in range(2):
        both.append(asyncio.create_task(runs.decide(begun.run_id, "a", Decision(True))))
        await turns()
    assert not any(each.done() for each in both), "the journal does not know of it yet"
    journal.gate.set()
    await asyncio.gather(*both)
    go.set()
    assert (await begun.result()).result == "paid"


class FullDisk:
    """A connection that cannot commit while the disk is full."""

    def __init__(self, connection) -> None:
        self._connection = connection
        self.is_full = False

    def execute(self, sql, *values):
        if self.is_full and sql == "COMMIT":
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise full
        return self._connection.execute(sql, *values)

    def __getattr__(self, name):
        return getattr(self._connection, name)


@asynccontextmanager
async def on_a_full_disk(tmp_path, model) -> AsyncIterator[tuple[Runs, SqliteJournal, FullDisk, BegunRun]]:
    """A run with a key, whose model is asked when the disk is full."""
    # With FULL it is the journal's thread that commits.
    journal = SqliteJournal(tmp_path / "audit.db", synchronous="FULL")
    await journal.start()
    disk = journal._writing()._connection = FullDisk(journal._writing()._connection)
    runs = Runs(Agent(model, journal=journal), journal, max_concurrent=5)
    begun = await runs.begin(HI, idempotency_key="key")
    await model.asked.wait()
    disk.is_full = True
    try:
        yield runs, journal, disk, begun
    finally:
        await runs.stop(0)
        await journal.stop()


async def test_cancelled_while_the_disk_is_full_a_run_does_not_go_on_when_it_is_not(tmp_path):
    model = WaitingModel(saying("done"))
    async with on_a_full_disk(tmp_path, model) as (runs, journal, disk, begun):
        with pytest.raises(JournalError, match="cannot be told yet"):
            await runs.cancel(begun.run_id)
        with pytest.raises(JournalError, match="cannot be told yet"):
            await begun.result()
        disk.is_full = False
        model.asked.clear()
        model.go.set()
        async with asyncio.timeout(10):
            while not RunState.of(await journal.events(begun.run_id)).is_final:
                # As the keeper does.
                await runs.recover()
                await asyncio.sleep(0.02)
        assert RunState.of(await journal.events(begun.run_id)).status is RunStatus.CANCELLED
        assert not model.asked.is_set(), "nothing starts after it was said to be over"


async def test_cancelled_on_a_full_disk_a_run_is_not_begun_again_by_its_key(tmp_path):
    model = WaitingModel(saying("done"))
    async with on_a_full_disk(tmp_path, model) as (runs, journal, disk, begun):
        with pytest.raises(JournalError, match="cannot be told yet"):
            await runs.cancel(begun.run_id)
        model.asked.clear()
        model.go.set()
        disk.is_full = False
        again = await runs.begin(HI, idempotency_key="key")
        with pytest.raises(CancelledByCallerError):
            await again.result()
        assert (await journal.events(begun.run_id))[-1].type is EventType.PLAN_CANCELLED
        assert not model.asked.is_set()


async def test_whoever_asks_again_while_the_disk_is_full_is_told_to_come_later(tmp_path, monkeypatch):
    monkeypatch.setattr(workshop, "CLOSING_PATIENCE_S", 0.01)
    async with on_a_full_disk(tmp_path, model := WaitingModel(saying("done"))) as (runs, _, disk, begun):
        model.go.set()
        with pytest.raises(JournalError):
            await begun.result()
        with pytest.raises(UnavailableError, match="ask again"):
            await runs.begin(HI, idempotency_key="key")
        with pytest.raises(UnavailableError, match="ask again"):
            await runs.decide(begun.run_id, "c", Decision(True))
        disk.is_full = False
        monkeypatch.setattr(workshop, "CLOSING_PATIENCE_S", 10.0)
        again = await runs.begin(HI, idempotency_key="key")
        with pytest.raises(JournalError, match="could not be written in the middle"):
            await again.result()


HAND_ON = calling(call("delegate", {"task": "add"}, "c1"))


class ByRun:
    """The parent `p` hands a task on; whoever is asked beside it waits."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def answer(self, request: ModelRequest):
        self.asked.append(request.effect_id)
        if request.effect_id == "p/1/model":
            return HAND_ON
        await self.go.wait()
        return saying("done")

    async def is_with_the_child(self) -> None:
        async with asyncio.timeout(5):
            while not any(not each.startswith("p/") for each in self.asked):
                await asyncio.sleep(0)


class SetClock(SystemClock):
    """The machine's clock, set forward."""

    ahead = timedelta()

    def now(self):
        return super().now() + self.ahead


def family(journal, model, tools=None, clock=None) -> Runs:
    delegate = Delegate()
    agent = Agent(model, journal=journal, tools=tools, own_tools=[delegate], clock=clock)
    delegate.children = runs = Runs(agent, journal, max_concurrent=5)
    return runs


async def cut_off(journal: SqliteJournal, tools=None) -> str:
    """Leaves a parent and its child as the death of their planner does; returns the child's id."""
    runs = family(journal, model := ByRun(), tools)
    await runs.begin(HI, run_id="p")
    await model.is_with_the_child()
    await runs.stop(0)
    return child_id("p/1/0")


async def test_a_run_that_is_cancelled_before_it_is_taken_up_takes_its_children_with_it(journal: SqliteJournal):
    child = await cut_off(journal)
    runs = family(journal, model := ByRun())
    assert (await runs.cancel("p")).status is RunStatus.CANCELLED
    assert (await runs.get(child)).status is RunStatus.CANCELLED
    await runs.recover()
    await turns(100)
    assert model.asked == []


async def test_a_run_that_is_cancelled_as_it_is_taken_up_takes_its_children_with_it(journal: SqliteJournal):
    tools, never = RecordingTools({"look": lambda x: ToolOutcome("ok", x)}), asyncio.Event()
    child = await cut_off(journal, tools)

    async def slow():
        await never.wait()

    # The run is at work, and has not come to where it waits for its child.
    tools.specs = slow
    runs = family(journal, ByRun(), tools)
    await runs.recover()
    await turns()
    assert (await runs.cancel("p")).status is RunStatus.CANCELLED
    status = (await runs.get(child)).status
    await runs.stop(0)
    assert status is RunStatus.CANCELLED


async def test_a_run_that_is_taken_up_finds_its_child_though_it_would_have_it_do_otherwise_now(journal: SqliteJournal):
    tools = RecordingTools({"look": lambda x: ToolOutcome("ok", x)})
    child = await cut_off(journal, tools)
    tools.away = UnavailableError("the sandbox is away")
    runs = family(journal, model := ByRun(), tools)
    await runs.recover()
    model.go.set()
    result = await runs.settled("p")
    assert (result.status, result.result) == (RunStatus.COMPLETED, "done")
    assert [(step.error, step.output["run_id"], step.output["result"]) for step in result.steps] == [
        (None, child, "done")
    ]


async def test_children_that_could_not_be_cancelled_are_when_it_is_asked_again(journal: SqliteJournal, monkeypatch):
    child = await cut_off(journal)
    runs = family(journal, model := ByRun())
    cancel = runs.cancel

    async def away(run_id: str, reason: str = "") -> RunResult:
        if run_id == child:
            raise UnavailableError("the planner that has it does not answer")
        return await cancel(run_id, reason)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "cancel", away)
        with pytest.raises(UnavailableError):
            await runs.cancel("p")
    assert (await runs.get("p")).status is RunStatus.CANCELLED
    assert (await runs.cancel("p")).status is RunStatus.CANCELLED
    assert (await runs.get(child)).status is RunStatus.CANCELLED
    await runs.recover()
    await turns(100)
    assert model.asked == []


async def test_a_call_that_was_under_way_is_asked_for_though_the_tools_cannot_be_listed(journal: SqliteJournal):
    tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", {"paid": True})}, effects=Effects.EFFECTFUL)
    tools.know_effects = True
    asked, execute_ = asyncio.Event(), tools.execute

    async def held(made, **kwargs):
        asked.set()
        await asyncio.Event().wait()

    tools.execute = held
    script = ScriptedModel(calling(call("pay", {})), saying("paid"))
    runs = Runs(Agent(script, tools=tools, journal=journal), journal, max_concurrent=5)
    begun = await runs.begin(HI)
    await asked.wait()
    await runs.stop(0)
    tools.execute, tools.away = execute_, UnavailableError("the sandbox is away")
    runs = Runs(Agent(script, tools=tools, journal=journal), journal, max_concurrent=5)
    await runs.recover()
    result = await runs.settled(begun.run_id)
    assert [effect_id for _, effect_id in tools.executed] == [f"{begun.run_id}/1/0"]
    assert [step.output for step in result.steps] == [{"paid": True}]


async def test_a_run_whose_time_is_over_when_it_is_taken_up_takes_its_children_with_it(journal: SqliteJournal):
    clock = SetClock()

    class Slow(ByRun):
        async def answer(self, request: ModelRequest):
            clock.ahead = timedelta(days=2)
            return await super().answer(request)

    runs = family(journal, slow := Slow(), clock=clock)
    await runs.begin(HI, run_id="p")
    await slow.is_with_the_child()
    await runs.stop(0)
    runs = family(journal, model := ByRun(), clock=clock)
    await runs.recover()
    assert (await runs.settled("p")).status is RunStatus.LIMIT_TIME
    assert (await runs.settled(child_id("p/1/0"))).status is RunStatus.CANCELLED
    assert not any(each.startswith("p/") for each in model.asked)


class StrictModel:
    """Gives an effect id one answer, and refuses another request under it, as the gateway does."""

    def __init__(self) -> None:
        self.known: dict[str, ModelRequest] = {}
        self.asked = asyncio.Event()

    async def answer(self, request: ModelRequest):
        if self.known.setdefault(request.effect_id, request) != request:
            raise EffectConflictError(f"{request.effect_id} names another request")
        self.asked.set()
        if len(self.known) == 1:
            await asyncio.Event().wait()
        return saying("done")


async def test_a_fork_does_not_take_over_a_question_that_is_not_answered_yet(journal: SqliteJournal):
    model = StrictModel()
    runs = Runs(Agent(model, journal=journal), journal, max_concurrent=5)
    begun = await runs.begin(HI)
    await model.asked.wait()
    fork = await runs.fork(begun.run_id, 0, Change(model="other"))
    assert (await fork.result()).result == "done"
    with pytest.raises(InvalidArgumentError, match="does not go on from step 1; it does from: 0"):
        await runs.fork(begun.run_id, 1, Change(model="other"))
    await runs.stop(0)


async def test_the_time_since_a_run_is_not_used_up_by_its_fork(journal: SqliteJournal):
    clock = SetClock()
    tools = RecordingTools({"look": lambda x: ToolOutcome("ok", x)})
    model = ScriptedModel(calling(call("look", {})), saying("done"), saying("done again"))
    agent = Agent(model, tools=tools, journal=journal, clock=clock)
    runs = Runs(agent, journal, max_concurrent=5)
    begun = await runs.begin(HI)
    await begun.result()
    clock.ahead = timedelta(days=2)
    fork = await runs.fork(begun.run_id, 1, Change())
    assert (await fork.result()).result == "done again"
    state = RunState.of(await journal.events(fork.run_id))
    assert state.used_s < 10.0, "what is left of it bounds the fork's children, and the fork after a restart"


async def test_a_run_that_names_its_tools_asks_the_same_question_after_a_restart():
    tools = RecordingTools(
        {name: lambda x: ToolOutcome("ok", x) for name in ("a", "b", "c")}, effects=Effects.READ_ONLY
    )
    journal, model = ListJournal(), StrictModel()
    asking = asyncio.create_task(
        Agent(model, tools=tools, journal=journal).run(RunRequest("hi", "s", tools=("c", "a", "b")), run_id="r")
    )
    await model.asked.wait()
    events = [*await journal.events("r")]
    asking.cancel()
    await asyncio.wait([asking])
    again = ListJournal()
    for event in events:
        again.append(event, FIRST_EPOCH)
    model.known["warm"] = model.known["r/1/model"]
    await Agent(model, tools=tools, journal=again).reopen(RunState.of(events)).drive()
    assert "r/1/model/2" not in model.known, "the answer would be paid for twice"


class Knowing:
    """A catalogue of models that can write 100 tokens."""

    async def traits(self, model: str) -> ModelTraits:
        return ModelTraits(max_output_tokens=100)


async def test_a_run_asks_the_same_question_after_a_restart_though_nothing_is_known_of_the_model():
    journal, model, request = ListJournal(), StrictModel(), RunRequest("hi", "s", limits=Limits(max_tokens=10_000))
    asking = asyncio.create_task(Agent(model, catalogue=Knowing(), journal=journal).run(request, run_id="r"))
    await model.asked.wait()
    events = [*await journal.events("r")]
    asking.cancel()
    await asyncio.wait([asking])
    again = ListJournal()
    for event in events:
        again.append(event, FIRST_EPOCH)
    model.known["warm"] = model.known["r/1/model"]
    await Agent(model, journal=again).reopen(RunState.of(events)).drive()
    assert "r/1/model/2" not in model.known, "the answer would be paid for twice"
    assert await replay(await again.events("r")) is None


@pytest.mark.parametrize("refusal", [ResourceExhaustedError("too many calls"), NotFoundError("there is no such tool")])
@pytest.mark.parametrize(
    ("effects", "may_have_run", "is_unknown"),
    [(Effects.EFFECTFUL, True, True), (Effects.EFFECTFUL, False, False), (Effects.IDEMPOTENT, True, False)],
)
async def test_refused_the_second_time_an_effect_may_have_happened_the_first(
    refusal, effects, may_have_run, is_unknown
):
    tools = RecordingTools({"pay": lambda _: refusal}, effects=effects)
    tools.know_effects = True
    specs = {spec.name: spec for spec in await tools.specs()}
    seen = await execute(call("pay", {}), tools, specs, session_id="s", effect_id="r/1/0", may_have_run=may_have_run)
    assert (seen.outcome.verdict == "unknown") is is_unknown
    assert ("outcome is unknown" in seen.text) is is_unknown
    assert refusal.message in seen.text


async def test_the_fork_of_a_child_has_no_parent_that_waits_for_it(journal: SqliteJournal):
    model = ScriptedModel(saying("done"), saying("done again"))
    runs = Runs(Agent(model, journal=journal), journal, max_concurrent=5)
    child = await runs.begin(replace(HI, parent_run_id="p", depth=1))
    await child.result()
    fork = await runs.fork(child.run_id, 0, Change())
    await fork.result()
    request = RunState.of(await journal.events(fork.run_id)).request
    assert (request["parent_run_id"], request["depth"]) == ("", 1)
    assert request["forked_from"] == {"run_id": child.run_id, "step": 0}


async def test_an_end_that_the_disk_did_not_take_is_told_to_nobody(tmp_path):
    async with on_a_full_disk(tmp_path, model := WaitingModel(saying("done"))) as (runs, journal, disk, begun):
        model.go.set()
        async with asyncio.timeout(5):
            while not begun.run.state.is_final:
                await asyncio.sleep(0)
        # It has noted its end, which is on its way to the disk.
        with pytest.raises(JournalError):
            await runs.cancel(begun.run_id)
        disk.is_full = False
        told = (await runs.cancel(begun.run_id)).status
        assert told is RunState.of(await journal.events(begun.run_id)).status


async def test_while_the_disk_is_full_no_more_runs_are_begun_than_may_be_in_progress(tmp_path):
    async with on_a_full_disk(tmp_path, model := WaitingModel(saying("done"))) as (runs, _, disk, begun):
        model.go.set()
        with pytest.raises(JournalError):
            await begun.result()
        for _ in range(4):
            with pytest.raises(JournalError, match="database or disk is full"):
                await (await runs.begin(HI)).result()
        with pytest.raises(JournalError, match=r"5 runs wait to be ended there: is the disk full\? Try again"):
            await runs.begin(HI)
        disk.is_full = False
        async with asyncio.timeout(10):
            while runs._workshop.closing:
                await asyncio.sleep(0.02)
        assert (await (await runs.begin(HI)).result()).result == "done"


async def test_a_child_whose_end_is_not_known_yet_is_no_result(journal: SqliteJournal, monkeypatch):
    monkeypatch.setattr(workshop, "CLOSING_PATIENCE_S", 0.01)
    sync, child = journal.sync, child_id("p/1/0")

    async def failing(run_id: str) -> None:
        await sync(run_id)
        if run_id == child and RunState.of(await journal.events(child)).asked:
            raise JournalError("the disk is full")

    journal.sync = failing
    runs = family(journal, model := ByRun())
    model.go.set()
    [step] = (await (await runs.begin(HI, run_id="p")).result()).steps
    assert "the outcome is unknown" in step.error
    assert "cannot be told yet" in step.error
    await runs.stop(0)


async def test_a_child_does_not_outlive_the_death_of_the_planner_that_was_about_to_end_it(journal: SqliteJournal):
    child = await cut_off(journal)
    # What the planner came to before it died.
    [claim] = await journal.claim(["p"])
    at = (await journal.events("p"))[-1].timestamp
    end = Event("p", claim.last_seq + 1, EventType.PLAN_CANCELLED, at, "", "s", {"reason": "enough", "result": ""})
    journal.append(end, claim.epoch)
    await journal.sync("p")
    runs = family(journal, model := ByRun())
    await runs.recover()
    assert (await runs.settled(child)).status is RunStatus.CANCELLED
    assert model.asked == []


async def test_a_child_goes_on_whose_parent_this_version_cannot_read(journal: SqliteJournal):
    child = await cut_off(journal)

    class Newer:
        def __getattr__(self, name):
            return getattr(journal, name)

        async def events(self, run_id, **which):
            if run_id == "p":
                raise ValueError("'PLAN_FUTURE' is not a valid EventType")
            return await journal.events(run_id, **which)

    runs = family(Newer(), model := ByRun())
    model.go.set()
    await runs.recover()
    assert (await runs.settled(child)).result == "done"


async def test_a_child_that_is_begun_as_the_planner_stops_is_suspended_with_its_parent(journal: SqliteJournal):
    class Late(ByRun):
        may_begin = asyncio.Event()
        is_stopped = False

        async def answer(self, request: ModelRequest):
            if request.effect_id == "p/1/model":
                await self.may_begin.wait()
            try:
                return await super().answer(request)
            except asyncio.CancelledError:
                self.is_stopped = True
                raise

    runs = family(journal, model := Late())
    await runs.begin(HI, run_id="p")
    stopping = asyncio.create_task(runs.stop(0.05))
    await turns()
    model.may_begin.set()
    await stopping
    assert (model.is_stopped, runs.active) == (True, 0)
    assert (await runs.get(child_id("p/1/0"))).status is RunStatus.RUNNING, "it goes on at the next start"
