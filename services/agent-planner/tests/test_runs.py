"""The runs of a process: once for each key, bounded, stopped, closed where they were cut off."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing

import pytest
from pagi_chassis.errors import CancelledByCallerError, InternalError, UnavailableError
from pagi_planner import Agent, Limits, RunRequest, RunStatus
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.errors import (
    IdempotencyConflictError,
    JournalError,
    OverloadedError,
    RunNotFoundError,
    RunSuspendedError,
    UnknownToolError,
)
from pagi_planner.domain.keeping import workshop
from pagi_planner.domain.keeping.begun_run import run_id_of
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.keeping.workshop import AtWork
from pagi_planner.domain.model import Resource
from pagi_planner.domain.state.events import FINAL, EventType
from pagi_planner.testing import ScriptedModel, WaitingModel, saying

HI = RunRequest("hi")


def runs_of(journal: SqliteJournal, model, max_concurrent: int = 10) -> Runs:
    return Runs(Agent(model, journal=journal), journal, max_concurrent=max_concurrent)


async def ends_of(journal: SqliteJournal, run_id: str) -> list[EventType]:
    return [event.type for event in await journal.events(run_id) if event.type in FINAL]


async def eventually(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_one_key_at_once_is_one_run(journal):
    model = WaitingModel(saying("done"))
    runs = runs_of(journal, model)
    begun = await asyncio.gather(*(runs.begin(HI, idempotency_key="k") for _ in range(20)))
    assert {each.run_id for each in begun} == {run_id_of("k")}
    assert runs.active == 1
    model.go.set()
    results = await asyncio.gather(*(each.result() for each in begun))
    assert all(result == results[0] for result in results)


async def test_one_key_at_once_with_another_request_is_refused(journal):
    model = WaitingModel(saying("done"))
    runs = runs_of(journal, model)
    first, second = await asyncio.gather(
        runs.begin(HI, idempotency_key="k"), runs.begin(RunRequest("ho"), idempotency_key="k"), return_exceptions=True
    )
    assert isinstance(second, IdempotencyConflictError)
    with pytest.raises(IdempotencyConflictError):
        await runs.begin(RunRequest("hi", "other session"), idempotency_key="k")
    model.go.set()
    assert (await first.result()).result == "done"


@pytest.mark.parametrize(
    "other",
    [
        RunRequest("ho"),
        RunRequest("hi", "s"),
        RunRequest("hi", persona="p"),
        RunRequest("hi", model="m"),
        RunRequest("hi", tools=()),
        RunRequest("hi", resources=(Resource("url", "u"),)),
        RunRequest("hi", limits=Limits(max_steps=3)),
    ],
)
async def test_after_the_end_the_key_still_belongs_to_its_request(journal, other):
    runs = runs_of(journal, ScriptedModel(saying("done")))
    first = await (await runs.begin(HI, idempotency_key="k")).result()
    later = runs_of(journal, ScriptedModel())
    assert await (await later.begin(HI, idempotency_key="k")).result() == first
    with pytest.raises(IdempotencyConflictError):
        await later.begin(other, idempotency_key="k")


async def test_a_full_request_is_recognised_after_the_end(journal):
    full = RunRequest("hi", "s", "", "m", (), (Resource("url", "u"),), Limits(2, 5.5, 0.25))
    await (await runs_of(journal, ScriptedModel(saying("done"))).begin(full, idempotency_key="k")).result()
    assert (await (await runs_of(journal, ScriptedModel()).begin(full, idempotency_key="k")).result()).result == "done"


@pytest.mark.parametrize(
    ("error", "kind", "field"),
    [
        (UnavailableError("away"), UnavailableError, None),
        (UnknownToolError("no such tool", field="tools[0]"), UnknownToolError, "tools[0]"),
        (KeyError("secret"), InternalError, None),
    ],
)
async def test_a_failed_run_fails_for_who_asks_again(journal, error, kind, field):
    runs = runs_of(journal, ScriptedModel(error))
    with pytest.raises(type(error)):
        await (await runs.begin(HI, idempotency_key="k")).result()
    again = await runs.begin(HI, idempotency_key="k")
    with pytest.raises(kind) as caught:
        await again.result()
    assert getattr(caught.value, "field", None) == field
    assert "secret" not in str(caught.value)


async def test_a_run_that_ends_while_its_key_is_looked_up_is_not_begun_again(journal):
    """The look at the journal comes before the end, the look at what is active after it."""

    class SlowJournal:
        """Gives what it read only when the run is over."""

        def __init__(self) -> None:
            self.reads = 0
            self.over = asyncio.Event()

        def __getattr__(self, name):
            return getattr(journal, name)

        async def events(self, run_id):
            events = await journal.events(run_id)
            self.reads += 1
            if self.reads == 2:
                model.go.set()
                await self.over.wait()
            return events

    slow = SlowJournal()
    model = WaitingModel(saying("done"))
    agent = Agent(model, journal=slow)
    runs = Runs(agent, journal, max_concurrent=10)
    # Two who look before either has begun; the second one's look takes until the first one's run is over.
    first = await runs.begin(HI, idempotency_key="k")
    runs._workshop.at_work.clear()
    late = asyncio.create_task(runs.begin(HI, idempotency_key="k"))
    await asyncio.sleep(0)
    runs._workshop.at_work[first.run_id] = AtWork(HI, first.run, first.task)
    result = await first.result()
    slow.over.set()
    assert await (await late).result() == result
    assert await ends_of(journal, first.run_id) == [EventType.PLAN_END]


async def test_the_excess_is_shed_and_a_repeat_is_not(journal):
    model = WaitingModel(saying("done"))
    runs = runs_of(journal, model, max_concurrent=2)
    begun = [await runs.begin(HI, idempotency_key=key) for key in "ab"]
    with pytest.raises(OverloadedError) as caught:
        await runs.begin(HI)
    assert caught.value.retry_after_s == 1.0
    assert (await runs.begin(HI, idempotency_key="a")).run_id == begun[0].run_id
    model.go.set()
    await asyncio.gather(*(each.result() for each in begun))
    await runs.begin(HI)
    await runs.stop(5)


async def test_who_stops_waiting_does_not_stop_the_run(journal):
    model = WaitingModel(saying("done"))
    runs = runs_of(journal, model)
    begun = await runs.begin(HI)
    waiting = asyncio.create_task(begun.result())
    await model.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    model.go.set()
    assert (await begun.result()).result == "done"


async def test_a_fault_is_logged_though_nobody_waits(journal, caplog):
    runs = runs_of(journal, ScriptedModel(KeyError("what broke")))
    await runs.begin(HI)
    await runs.stop(5)
    assert "what broke" in caplog.text


async def test_the_stop_lets_runs_finish(journal):
    model = WaitingModel(saying("done"))
    runs = runs_of(journal, model)
    begun = await runs.begin(HI)
    await model.asked.wait()
    stopping = asyncio.create_task(runs.stop(10))
    await asyncio.sleep(0)
    model.go.set()
    await stopping
    assert (await begun.result()).status is RunStatus.COMPLETED


async def test_the_stop_suspends_what_takes_too_long_and_the_next_start_goes_on(journal):
    runs = runs_of(journal, WaitingModel(saying("never")))
    begun = await runs.begin(HI, idempotency_key="k")
    await runs.stop(0.01)
    with pytest.raises(RunSuspendedError, match="goes on after its next start"):
        await begun.result()
    assert await ends_of(journal, begun.run_id) == []
    later = runs_of(journal, ScriptedModel(saying("done")))
    assert await later.recover() == 1
    assert (await (await later.begin(HI, idempotency_key="k")).result()).result == "done"


async def test_a_run_is_cancelled_while_the_model_is_asked_and_says_what_it_had_reached(journal):
    model = WaitingModel(saying("never"))
    runs = runs_of(journal, model)
    begun = await runs.begin(HI)
    await model.asked.wait()
    result = await runs.cancel(begun.run_id, "somebody wished it")
    assert (result.status, result.error) == (RunStatus.CANCELLED, "somebody wished it")
    assert "Nothing was reached yet" in result.result
    with pytest.raises(CancelledByCallerError):
        await begun.result()
    assert await ends_of(journal, begun.run_id) == [EventType.PLAN_CANCELLED]
    # Once more, and of one that is over: the end that it has stays.
    assert await runs.cancel(begun.run_id) == await runs.get(begun.run_id) == result


async def test_what_a_dead_process_left_goes_on_and_the_dead_one_can_write_nothing_more(journal):
    model = WaitingModel(saying("too late"))
    dead = runs_of(journal, model)
    begun = await dead.begin(HI, idempotency_key="k")
    await model.asked.wait()
    await journal.sync(begun.run_id)

    answers = ScriptedModel(saying("done"))
    alive = runs_of(journal, answers)
    assert await alive.recover() == 1
    assert (await (await alive.begin(HI, idempotency_key="k")).result()).result == "done"
    assert await alive.recover() == 0
    # Asked once more under the same effect id, so that a gateway which has the answer gives that one.
    assert [asked.effect_id for asked in answers.requests] == [f"{begun.run_id}/1/model"]
    model.go.set()
    # Who waits for the one that could write nothing more is told how the run ended elsewhere.
    assert (await begun.result()).result == "done"
    await dead.stop(0)
    assert await ends_of(journal, begun.run_id) == [EventType.PLAN_END]


async def test_a_run_that_cannot_be_read_is_ended_and_does_not_keep_the_planner_from_starting(journal, caplog):
    model = WaitingModel(saying("never"))
    dead = Agent(model, journal=journal)
    tasks = [asyncio.create_task(dead.run(HI, run_id=run_id)) for run_id in ("bad", "good")]
    await model.asked.wait()
    await journal.sync("good")

    class Unreadable:
        def __getattr__(self, name):
            return getattr(journal, name)

        async def events(self, run_id):
            if run_id == "bad":
                raise ValueError("'PLAN_FUTURE' is not a valid EventType")
            return await journal.events(run_id)

    runs = Runs(Agent(ScriptedModel(saying("done")), journal=Unreadable()), journal, max_concurrent=1)
    assert await runs.recover() == 1
    await runs.stop(5)
    assert "PLAN_FUTURE" in caplog.text
    assert (await ends_of(journal, "good"), await ends_of(journal, "bad")) == (
        [EventType.PLAN_END],
        [EventType.PLAN_ERROR],
    )
    assert runs.unreadable == 0
    assert "cannot be read by this version" in (await journal.events("bad"))[-1].data["error"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_run_whose_journal_failed_is_closed_when_it_can_be_written(journal, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(workshop, "FIRST_PAUSE_S", 0.01)
    runs = runs_of(journal, ScriptedModel(saying("x")))
    with closing(sqlite3.connect(tmp_path / "audit.db")) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON audit_log WHEN NEW.seq > 1 BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        begun = await runs.begin(HI, idempotency_key="k")
        with pytest.raises(JournalError, match="full"):
            await begun.result()
        assert (await runs.get(begun.run_id)).status is RunStatus.RUNNING
        # More than one try, so that one which fails is seen to be followed by another.
        await eventually(lambda: caplog.text.count("cannot be written") > 3)
        other.execute("DROP TRIGGER full")
    await eventually(lambda: not runs._workshop.closing)
    assert (await runs.get(begun.run_id)).status is RunStatus.FAILED
    with pytest.raises(JournalError, match="could not be written"):
        await (await runs.begin(HI, idempotency_key="k")).result()
    await runs.stop(0)


async def test_a_run_that_is_not_there(journal):
    with pytest.raises(RunNotFoundError, match="'nix'"):
        await runs_of(journal, ScriptedModel()).get("nix")


async def test_stopping_with_nothing_to_stop_is_quiet(journal, caplog):
    caplog.set_level(logging.WARNING)
    await runs_of(journal, ScriptedModel()).stop(0)
    assert caplog.text == ""


async def test_no_more_are_taken_up_than_there_is_room_for_and_the_rest_follows(journal):
    dead = runs_of(journal, WaitingModel(saying("never")), max_concurrent=30)
    begun = [await dead.begin(HI) for _ in range(30)]
    await eventually(lambda: all(each.state.asked for each in begun))
    await asyncio.gather(*(journal.sync(each.run_id) for each in begun))

    model = WaitingModel(saying("done"))
    alive = runs_of(journal, model, max_concurrent=4)
    assert await alive.recover() == 4
    assert alive.active == 4
    assert await alive.recover() == 0, "those that wait for room are claimed already"
    with pytest.raises(OverloadedError):
        await alive.begin(HI)
    # One of those that wait is asked for: it ends where it stands, though there is no room.
    waiting = [each.run_id for each in begun if each.run_id not in alive._workshop.at_work]
    assert (await alive.cancel(waiting[-1])).status is RunStatus.CANCELLED
    model.go.set()
    async with asyncio.timeout(10):
        while await journal.unfinished():
            assert alive.active <= 4
            await asyncio.sleep(0.001)
    page = await alive.find(limit=30, status=RunStatus.COMPLETED)
    assert len(page.runs) == 29
    await alive.stop(5)
    await dead.stop(0)


async def test_time_in_which_nobody_worked_on_a_run_is_not_its_own(journal):
    dead = runs_of(journal, WaitingModel(saying("never")))
    begun = await dead.begin(RunRequest("hi", limits=Limits(timeout_s=0.5)))
    await eventually(lambda: begun.state.asked)
    await journal.sync(begun.run_id)
    await dead.stop(0)
    await asyncio.sleep(0.6)
    alive = runs_of(journal, answering := WaitingModel(saying("done")))
    assert await alive.recover() == 1
    await answering.asked.wait()
    await asyncio.sleep(0.05)
    answering.go.set()
    await alive.stop(5)
    result = await alive.get(begun.run_id)
    assert (result.status, result.result) == (RunStatus.COMPLETED, "done")
    [resumed] = [event for event in await journal.events(begun.run_id) if event.type is EventType.RUN_RESUMED]
    assert resumed.data["downtime_s"] > 0.5
    assert (resumed.data["epoch"], resumed.data["owner"]) == (2, journal.owner)


async def test_a_run_that_can_neither_be_read_nor_ended_is_left_alone_and_counted(journal, caplog):
    dead = runs_of(journal, WaitingModel(saying("never")))
    begun = await dead.begin(HI)
    await eventually(lambda: begun.state.asked)
    await journal.sync(begun.run_id)

    class Broken:
        def __getattr__(self, name):
            return getattr(journal, name)

        async def events(self, run_id, **_):
            raise ValueError("rubbish")

        async def sync(self, run_id):
            raise JournalError("full")

    runs = Runs(Agent(ScriptedModel(), journal=Broken()), journal, max_concurrent=1)
    assert await runs.recover() == 0
    assert runs.unreadable == 1
    told = len(caplog.records)
    assert await runs.recover() == 0
    assert len(caplog.records) == told, "said once"
    await dead.stop(0)
