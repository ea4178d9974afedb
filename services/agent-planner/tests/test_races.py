"""Two that want one run at the same moment: one of them gets it, and nothing of it goes on unseen."""

from __future__ import annotations

import asyncio

import pytest
from pagi_chassis import deadline
from pagi_planner import Agent, Limits, RunRequest, RunStatus
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.errors import JournalError, OverloadedError
from pagi_planner.domain.keeping.keeper import Keeper
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.ownership import Order, OrderKind
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.time_travel.fork import Change
from pagi_planner.domain.tools.delegate import Delegate, child_id
from pagi_planner.testing import ScriptedModel, WaitingModel, call, calling, saying

HI = RunRequest("hi", "s")


async def eventually(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_the_keeper_does_not_take_a_fork_for_a_run_that_nobody_works_on(journal: SqliteJournal):
    model = ScriptedModel(saying("one"), saying("two"))
    runs = Runs(Agent(model, journal=journal), journal, max_concurrent=5)
    begun = await runs.begin(HI)
    await begun.result()
    sync = journal.sync

    async def then_the_keeper_looks(run_id: str) -> None:
        await sync(run_id)
        journal.sync = sync
        await runs.recover()

    journal.sync = then_the_keeper_looks
    fork = await runs.fork(begun.run_id, 0, Change())
    assert (await fork.result()).result == "two"
    assert EventType.RUN_RESUMED not in [event.type for event in await journal.events(fork.run_id)]


async def cut_off(journal: SqliteJournal, **begin) -> str:
    dead = Runs(Agent(model := WaitingModel(saying("never")), journal=journal), journal, max_concurrent=5)
    begun = await dead.begin(HI, **begin)
    await model.asked.wait()
    await dead.stop(0)
    return begun.run_id


async def test_who_asks_by_its_key_for_a_run_that_is_being_taken_up_gets_that_one(journal: SqliteJournal):
    run_id = await cut_off(journal, idempotency_key="k")
    runs = Runs(Agent(model := WaitingModel(saying("done")), journal=journal), journal, max_concurrent=5)
    claim, is_claimed, go = journal.claim, asyncio.Event(), asyncio.Event()

    async def slow(run_ids):
        claims = await claim(run_ids)
        is_claimed.set()
        await go.wait()
        return claims

    journal.claim = slow
    keeping = asyncio.create_task(runs.recover())
    await is_claimed.wait()
    journal.claim = claim
    asking = asyncio.create_task(runs.begin(HI, idempotency_key="k"))
    await eventually(lambda: run_id in runs._custody._locks)
    go.set()
    await asyncio.gather(keeping, asking)
    await model.asked.wait()
    assert runs.active == 1, "it can be cancelled"
    model.go.set()
    assert (await asking.result().result()).result == "done"
    resumed = [event for event in await journal.events(run_id) if event.type is EventType.RUN_RESUMED]
    assert len(resumed) == 1


async def test_a_run_that_waits_for_room_is_cancelled_on_another_planners_word(journal: SqliteJournal):
    run_id = await cut_off(journal)
    runs = Runs(Agent(model := WaitingModel(saying("done")), journal=journal), journal, max_concurrent=1)
    begun = await runs.begin(HI)
    await model.asked.wait()
    await runs.recover()
    assert runs.queued == 1
    await runs.carry_out(Order(run_id, OrderKind.CANCEL, {"reason": "enough"}))
    assert ((await runs.get(run_id)).status, runs.queued) == (RunStatus.CANCELLED, 0)
    model.go.set()
    await begun.result()


@pytest.mark.parametrize("fault", [ValueError("a fault of ours"), JournalError("the store is away")])
async def test_the_keeper_goes_on_after_a_fault(journal: SqliteJournal, fault):
    runs = Runs(Agent(ScriptedModel(saying("done")), journal=journal), journal, max_concurrent=5)
    looks = 0

    async def recover() -> int:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise fault
        return 0

    runs.recover = recover
    keeper = Keeper(runs, journal, beat_s=0.01)
    await keeper.start()
    await eventually(lambda: looks > 3)
    await keeper.stop()


async def test_a_run_that_is_taken_up_when_another_makes_room_has_its_own_time(journal: SqliteJournal):
    run_id = await cut_off(journal)
    left_s: dict[str, float | None] = {}

    class Timed(WaitingModel):
        async def answer(self, request):
            left_s[request.effect_id.partition("/")[0]] = deadline.remaining_s()
            if request.effect_id == "p/1/model":
                return calling(call("delegate", {"task": "x"}))
            return await super().answer(request)

    delegate = Delegate()
    agent = Agent(model := Timed(saying("done")), journal=journal, own_tools=[delegate])
    delegate.children = runs = Runs(agent, journal, max_concurrent=2)
    parent = await runs.begin(RunRequest("hi", limits=Limits(timeout_s=5)), run_id="p")
    await model.asked.wait()
    await runs.recover()
    assert runs.queued == 1
    # The child, whose time is of its parent's, makes room.
    model.go.set()
    assert (await parent.result()).result == "done"
    await eventually(lambda: run_id in left_s)
    await runs.settled(run_id)
    assert left_s[child_id("p/1/0")] < 6 < 50 < left_s[run_id]


async def test_who_asks_again_for_a_run_that_waits_for_room_comes_later(journal: SqliteJournal):
    first, second = [await cut_off(journal, idempotency_key=key) for key in ("1", "2")]
    runs = Runs(Agent(model := WaitingModel(saying("done")), journal=journal), journal, max_concurrent=1)
    await runs.recover()
    await model.asked.wait()
    with pytest.raises(OverloadedError, match=f"{second} was cut off and goes on when there is room"):
        await runs.begin(HI, idempotency_key="2")
    assert runs.active == 1
    model.go.set()
    assert (await runs.settled(first)).result == "done"
    assert (await (await runs.begin(HI, idempotency_key="2")).result()).result == "done"
