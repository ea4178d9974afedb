"""The relay: at least once, in order, with patience, whoever is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from pagi_chassis import correlation, telemetry
from pagi_chassis.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PagiError,
    ResourceExhaustedError,
    UnavailableError,
)
from pagi_planner import Agent, RunRequest
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.after import relay as relay_module
from pagi_planner.domain.after.history import HistoryKeeper
from pagi_planner.domain.after.relay import Relay
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.testing import InMemoryMemory, RecordingNotifier, ScriptedModel, saying

TYPES = {EventType.PLAN_START, EventType.PLAN_END}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(relay_module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(relay_module, "LONGEST_PAUSE_S", 0.002)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def tell(journal: SqliteJournal, *names: str, kind: EventType = EventType.PLAN_START) -> None:
    for name in names:
        journal.append(Event(name, 1, kind, datetime.now(UTC), f"trace {name}", f"session {name}", {}))
        await journal.sync(name)


class Following:
    """A relay to a notifier, that can be stopped and started again as a new process would."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.notifier = RecordingNotifier()
        self._journal = journal

    async def __aenter__(self) -> Following:
        self._relay = Relay("test", self._journal, TYPES, self.notifier.notify, delay_s=0)
        await self._relay.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._relay.stop()
        # As the journal does when it is stopped, too.
        await self._journal.sync("")

    @property
    def told(self) -> list[str]:
        return [event.run_id for event in self.notifier.told]


async def test_what_is_there_and_what_comes_is_told_in_order(journal):
    await tell(journal, "a", "b")
    async with Following(journal) as following:
        await eventually(lambda: following.told == ["a", "b"])
        await tell(journal, "c", "d")
        await eventually(lambda: following.told == ["a", "b", "c", "d"])


async def test_other_events_are_passed_over(journal):
    async with Following(journal) as following:
        await tell(journal, "a", kind=EventType.TOOL_CALL)
        await tell(journal, "b", kind=EventType.PLAN_END)
        await eventually(lambda: following.told == ["b"])


async def test_a_new_start_goes_on_where_the_last_one_stopped(journal):
    following = Following(journal)
    async with following:
        await tell(journal, "a", "b")
        await eventually(lambda: len(following.told) == 2)
    await tell(journal, "c")
    async with following:
        await eventually(lambda: len(following.told) == 3)
    assert following.told == ["a", "b", "c"]


async def test_a_stop_in_the_middle_of_many_repeats_none_but_the_batch_under_way(journal):
    names = [f"r{n}" for n in range(300)]
    for name in names:
        journal.append(Event(name, 1, EventType.PLAN_START, datetime.now(UTC), "t", "s", {}))
    await journal.sync(names[-1])
    following = Following(journal)
    second = asyncio.Event()
    notify = following.notifier.notify

    async def notify_first(events: Sequence[Event]) -> Sequence[str]:
        refusals = await notify(events)
        if len(following.told) > relay_module.BATCH:
            second.set()
            await asyncio.Event().wait()
        return refusals

    following.notifier.notify = notify_first
    async with following:
        await second.wait()
    assert following.told == names
    following.notifier.notify = notify
    async with following:
        await eventually(lambda: len(following.told) >= 400)
    assert following.told == names + names[relay_module.BATCH :]


@pytest.mark.parametrize(
    "error", [UnavailableError("away"), DeadlineExceededError("late"), ResourceExhaustedError("full")]
)
async def test_who_is_away_is_waited_for_and_nothing_is_lost_or_out_of_order(journal, error, caplog):
    caplog.set_level(logging.INFO)
    async with Following(journal) as following:
        following.notifier.away = error
        await tell(journal, "a", "b", "c")
        await eventually(lambda: "waits" in caplog.text)
        await asyncio.sleep(0.02)
        assert following.told == []
        following.notifier.away = None
        await eventually(lambda: following.told == ["a", "b", "c"])
    assert [caplog.text.count(word) for word in ("waits", "goes on")] == [1, 1]


@pytest.mark.parametrize(
    "error", [InvalidArgumentError("no such field"), InternalError("always broken"), KeyError("a fault of ours")]
)
async def test_one_that_can_never_be_told_does_not_hold_up_the_rest(journal, error, caplog):
    async with Following(journal) as following:
        notify = following.notifier.notify

        async def notify_all_but_b(events: Sequence[Event]) -> Sequence[str]:
            if any(event.run_id == "b" for event in events):
                raise error
            return await notify(events)

        following._relay._deliver = notify_all_but_b
        await tell(journal, "a", "b", "c")
        await eventually(lambda: following.told == ["a", "c"])
    assert "PLAN_START of b is left behind" in caplog.text


async def test_what_comes_in_a_burst_is_told_at_once_and_what_is_refused_of_it_is_said(journal, caplog):
    batches = []

    async def deliver(events: Sequence[Event]) -> Sequence[str]:
        batches.append([event.run_id for event in events])
        return ["no" if event.run_id == "b" else "" for event in events]

    relay = Relay("test", journal, TYPES, deliver, delay_s=0)
    await tell(journal, "a", "b", "c")
    await relay.start()
    await eventually(lambda: bool(batches))
    await relay.stop()
    assert batches == [["a", "b", "c"]]
    assert "PLAN_START of b is left behind: no" in caplog.text


async def test_a_fault_that_passes_is_borne(journal):
    async with Following(journal) as following:
        notify, faults = following.notifier.notify, 0

        async def notify_at_last(events: Sequence[Event]) -> Sequence[str]:
            nonlocal faults
            faults += 1
            if faults < 5:
                raise InternalError("starting up")
            return await notify(events)

        following._relay._deliver = notify_at_last
        await tell(journal, "a")
        await eventually(lambda: following.told == ["a"])


async def test_a_journal_that_cannot_be_read_is_waited_for(journal, caplog):
    class Flaky:
        fails: PagiError | None = UnavailableError("disk error")
        last_position = 1

        async def wait(self, position):
            await journal.wait(position)

        async def after(self, *args):
            if self.fails:
                raise self.fails
            return await journal.after(*args)

        cursor = journal.cursor
        advance = journal.advance
        turn = journal.turn
        has_turn = journal.has_turn

    told = []

    async def deliver(events):
        told.extend(event.run_id for event in events)
        return ()

    flaky = Flaky()
    relay = Relay("test", flaky, TYPES, deliver, delay_s=0)
    await tell(journal, "a")
    await relay.start()
    await eventually(lambda: "disk error" in caplog.text)
    flaky.fails = None
    await eventually(lambda: told == ["a"])
    await relay.stop()


async def test_the_ids_and_the_trace_of_the_run_are_bound_while_it_is_told(journal):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = []

    async def deliver(events: Sequence[Event]) -> Sequence[str]:
        seen.append((correlation.current(), telemetry.inject()))
        return ()

    relay = Relay("test", journal, TYPES, deliver, delay_s=0)
    await relay.start()
    data = {"traceparent": traceparent, "prompt": "p"}
    journal.append(Event("r", 1, EventType.PLAN_START, datetime.now(UTC), "t", "s", data))
    await eventually(lambda: bool(seen))
    await relay.stop()
    [(ids, headers)] = seen
    assert (ids.trace_id, ids.run_id, ids.session_id) == ("t", "r", "s")
    assert headers == {"traceparent": traceparent}


async def test_it_can_be_stopped_before_it_started_and_while_it_waits(journal):
    relay = Relay("test", journal, TYPES, RecordingNotifier().notify)
    await relay.stop()
    await relay.start()
    async with asyncio.timeout(5):
        await relay.stop()


async def test_history_that_memory_missed_is_stored_when_it_is_back(journal):
    memory = InMemoryMemory(away=UnavailableError("memory is away"))
    agent = Agent(ScriptedModel(saying("Hello Ada")), memory=memory, journal=journal)
    relay = Relay("history", journal, {EventType.PLAN_END}, HistoryKeeper(agent).deliver, delay_s=0)
    await relay.start()
    await agent.run(RunRequest("I am Ada", "s"), run_id="r")
    assert memory.exchanges == {}
    memory.away = None
    await eventually(lambda: "r" in memory.exchanges)
    await relay.stop()
    exchange = memory.exchanges["r"]
    assert exchange.session_id == "s"
    assert [(turn.role, turn.text) for turn in exchange.turns] == [("user", "I am Ada"), ("assistant", "Hello Ada")]


async def test_history_that_the_run_stored_is_not_stored_again(journal):
    class Counting(InMemoryMemory):
        calls = 0

        async def remember(self, exchange):
            self.calls += 1
            await super().remember(exchange)

    memory = Counting()
    agent = Agent(ScriptedModel(saying("x")), memory=memory, journal=journal)
    result = await agent.run("hi")
    keeper = HistoryKeeper(agent)
    [(_, end)] = await journal.after(0, {EventType.PLAN_END}, 10)
    await keeper.deliver([end])
    assert memory.calls == 1
    # A new process does not know, and memory does: a repeat changes nothing.
    await HistoryKeeper(Agent(ScriptedModel(), memory=memory, journal=journal)).deliver([end])
    assert (memory.calls, list(memory.exchanges)) == (2, [result.run_id])


async def test_a_fault_of_ours_does_not_end_it(journal, caplog):
    after, faults = journal.after, [ValueError("a row that nobody can read")]

    async def faulty(*asked):
        if faults:
            raise faults.pop()
        return await after(*asked)

    journal.after = faulty
    async with Following(journal) as following:
        await tell(journal, "a")
        await eventually(lambda: following.told == ["a"])
    assert "test begins again where its cursor stands" in caplog.text
