"""Two planners on one PostgreSQL, in one process: cancel, decide and ask where the run is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from pagi_chassis.errors import CancelledByCallerError
from pagi_planner import Agent, RunRequest, RunStatus
from pagi_planner.adapters.postgres_journal import PostgresJournal
from pagi_planner.domain.errors import DecidedError, IdempotencyConflictError, RunNotFoundError, UnknownCallError
from pagi_planner.domain.keeping.keeper import Keeper
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import Decision, ToolOutcome
from pagi_planner.domain.state.events import EventType
from pagi_planner.testing import RecordingTools, ScriptedModel, WaitingModel, call, calling, saying

HI = RunRequest("hi")


@asynccontextmanager
async def planner(url: str, model, tools=None) -> AsyncIterator[Runs]:
    journal = PostgresJournal(url, lapse_s=600)
    await journal.start()
    runs = Runs(Agent(model, tools=tools, journal=journal), journal, max_concurrent=10)
    keeper = Keeper(runs, journal, beat_s=0.2, grace_s=0)
    await keeper.start()
    try:
        yield runs
    finally:
        await keeper.stop()
        await journal.stop()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def kinds_of(runs: Runs, run_id: str) -> list[EventType]:
    return [event.type for event in await runs._agent.journal.events(run_id)]


async def test_a_run_is_cancelled_through_the_planner_that_does_not_have_it(stack, postgres_url):
    model = WaitingModel(saying("never"))
    one = await stack.enter_async_context(planner(postgres_url, model))
    other = await stack.enter_async_context(planner(postgres_url, ScriptedModel()))
    begun = await one.begin(HI)
    await model.asked.wait()
    began = time.monotonic()
    result = await other.cancel(begun.run_id, "somebody wished it")
    assert time.monotonic() - began < 2
    assert (result.status, result.error) == (RunStatus.CANCELLED, "somebody wished it")
    with pytest.raises(CancelledByCallerError):
        await begun.result()
    assert (await kinds_of(other, begun.run_id))[-1] is EventType.PLAN_CANCELLED
    assert await other.cancel(begun.run_id) == result
    with pytest.raises(RunNotFoundError):
        await other.cancel("nix")


async def test_a_run_that_waits_is_decided_on_anywhere_and_goes_on_there(stack, postgres_url):
    pay = calling(call("pay", {"n": 1}, "a"), call("pay", {"n": 2}, "b"))
    tools = [RecordingTools({"pay": lambda x: ToolOutcome("ok", x)}, need_approval={"pay"}) for _ in range(2)]
    one = await stack.enter_async_context(planner(postgres_url, ScriptedModel(pay), tools[0]))
    other = await stack.enter_async_context(planner(postgres_url, ScriptedModel(saying("paid")), tools[1]))
    begun = await one.begin(HI, idempotency_key="k")
    assert (await begun.result()).status is RunStatus.WAITING_APPROVAL
    assert (await other.decide(begun.run_id, "a", Decision(True))).status is RunStatus.WAITING_APPROVAL
    with pytest.raises(DecidedError):
        await one.decide(begun.run_id, "a", Decision(False))
    # Both at once: one of them is the first, and the run goes on once.
    await asyncio.gather(*(each.decide(begun.run_id, "b", Decision(True)) for each in (one, other)))
    [page] = (await one.find(limit=9)).runs
    assert page.run_id == begun.run_id
    kinds = await kinds_of(one, begun.run_id)
    assert kinds.count(EventType.APPROVAL_DECIDED) == 2


async def test_a_word_on_a_run_that_another_planner_is_at_reaches_it(stack, postgres_url):
    go = asyncio.Event()
    tools = RecordingTools({name: lambda x: ToolOutcome("ok", x) for name in ("pay", "look")}, need_approval={"pay"})
    execute = tools.execute

    async def held(made, **kwargs):
        if made.name == "look":
            await go.wait()
        return await execute(made, **kwargs)

    tools.execute = held
    both = calling(call("pay", {}, "a"), call("look", {}, "b"))
    one = await stack.enter_async_context(planner(postgres_url, ScriptedModel(both, saying("paid")), tools))
    other = await stack.enter_async_context(planner(postgres_url, ScriptedModel()))
    begun = await one.begin(HI)
    async with asyncio.timeout(10):
        while not begun.state.intents:
            await asyncio.sleep(0.01)
    result = await other.decide(begun.run_id, "a", Decision(False, "too dear"))
    assert result.status is RunStatus.RUNNING
    with pytest.raises(UnknownCallError):
        await other.decide(begun.run_id, "b", Decision(True))
    go.set()
    assert (await begun.result()).result == "paid"
    assert [made.name for made, _ in tools.executed] == ["look"]


async def test_the_same_key_at_both_is_one_run_and_both_are_told_its_end(stack, postgres_url):
    models = [WaitingModel(saying("done")), WaitingModel(saying("done"))]
    planners = [await stack.enter_async_context(planner(postgres_url, model)) for model in models]
    begun = await asyncio.gather(*(each.begin(HI, idempotency_key="k") for each in planners))
    asking = [asyncio.create_task(each.result()) for each in begun]
    await asyncio.wait([asyncio.create_task(model.asked.wait()) for model in models], return_when="FIRST_COMPLETED")
    later = await asyncio.gather(*(each.begin(HI, idempotency_key="k") for each in planners))
    asking += [asyncio.create_task(each.result()) for each in later]
    with pytest.raises(IdempotencyConflictError):
        await (await planners[1].begin(RunRequest("ho"), idempotency_key="k")).result()
    for model in models:
        model.go.set()
    assert {result.result for result in await asyncio.gather(*asking)} == {"done"}
    assert sum(model.asked.is_set() for model in models) == 1
    kinds = await kinds_of(planners[0], begun[0].run_id)
    assert kinds.count(EventType.PLAN_START) == kinds.count(EventType.PLAN_END) == 1
