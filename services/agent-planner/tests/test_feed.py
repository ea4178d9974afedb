"""The one stream of a run: all of it, in order, once, for each who watches, whenever they come."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pagi_chassis.errors import InvalidArgumentError
from pagi_planner import Agent, Policy, RunRequest, RunStatus
from pagi_planner.domain.errors import JournalError, RunNotFoundError
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.watching.channel import LagBounds
from pagi_planner.domain.watching.live_text import LiveText
from pagi_planner.domain.watching.stream import CutOff, Happened, Position, TextDelta, TextReset, phase_of
from pagi_planner.domain.watching.watcher import PAGE
from pagi_planner.testing import LoneStore, RecordingTools, SpeakingModel, WaitingModel, call, calling, saying

ADD = call("add", {"a": 1, "b": 2}, "c1")
FIRST, LAST = "Let me add these numbers. ", "It is 3, as anyone can see."
HI = RunRequest("1 + 2?", "s")


def tools() -> RecordingTools:
    return RecordingTools({"add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]})})


def speaker(**kwargs) -> SpeakingModel:
    return SpeakingModel(calling(ADD, text=FIRST), saying(LAST), **kwargs)


def runs_of(model, journal=None, policy=None) -> Runs:
    agent = Agent(model, tools=tools(), journal=journal, policy=policy)
    return Runs(agent, LoneStore(agent.journal), max_concurrent=10)


async def seen_by(watcher) -> list:
    with watcher:
        return [item async for item in watcher]


def texts_of(items) -> list[str]:
    """The texts as a client puts them together, one for each answer of the model."""
    texts: dict[int, str] = {}
    for item in items:
        if isinstance(item, TextDelta):
            texts[item.step] = texts.get(item.step, "") + item.text
        elif isinstance(item, TextReset):
            texts[item.step] = ""
    return [texts[step] for step in sorted(texts)]


def seqs_of(items) -> list[int]:
    return [item.event.seq for item in items if isinstance(item, Happened)]


async def test_who_watches_from_the_beginning_hears_the_model_as_it_speaks():
    runs = runs_of(model := speaker())
    begun = await runs.begin(HI)
    items = await seen_by(runs.follow(begun))
    events = await runs._agent.journal.events(begun.run_id)
    assert [item.event for item in items if isinstance(item, Happened)] == list(events)
    assert texts_of(items) == [FIRST, LAST]
    assert max(len(item.text) for item in items if isinstance(item, TextDelta)) == 3, "pieces, as they came"
    assert model.heard == 2
    kinds = [item.event.type if isinstance(item, Happened) else "text" for item in items]
    asked, answered = kinds.index(EventType.PLAN_MODEL_REQUEST), kinds.index(EventType.PLAN_MODEL_RESPONSE)
    assert set(kinds[asked + 1 : answered]) == {"text"}, "its words stand between question and answer"
    assert len({item.position for item in items}) == len(items), "each item has an id of its own"


async def test_nobody_listens_so_the_model_is_not_asked_to_speak():
    runs = runs_of(model := speaker())
    begun = await runs.begin(HI)
    await begun.result()
    assert model.heard == 0
    items = await seen_by(await runs.watch(begun.run_id, Position()))
    assert texts_of(items) == [FIRST, LAST], "and who comes later reads the same"
    assert seqs_of(items) == list(range(1, 11))


async def test_one_who_comes_in_the_middle_gets_what_was_said_and_then_the_rest():
    go, spoken = asyncio.Event(), asyncio.Event()
    pieces = 0

    async def pause() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 5:
            spoken.set()
            await go.wait()

    runs = runs_of(speaker(pause=pause))
    begun = await runs.begin(HI)
    first = asyncio.create_task(seen_by(runs.follow(begun)))
    await spoken.wait()
    second = await runs.watch(begun.run_id, Position())
    early: list = []
    while not any(isinstance(item, TextDelta) for item in early):
        early += await second.next()
    go.set()
    with second:
        late = [*early, *[item async for item in second]]
    assert next(item for item in early if isinstance(item, TextDelta)).text == FIRST[:12]
    assert texts_of(late) == texts_of(await first) == [FIRST, LAST]
    assert seqs_of(late) == seqs_of(await first)


async def test_many_watch_and_one_who_leaves_disturbs_nobody():
    runs = runs_of(speaker())
    begun = await runs.begin(HI)
    watching = [asyncio.create_task(seen_by(runs.follow(begun))) for _ in range(50)]
    leaving = runs.follow(begun)
    await leaving.next()
    leaving.close()
    assert not await leaving.next()
    for task in watching:
        assert texts_of(await task) == [FIRST, LAST]
    assert runs._agent.parts.feed.watchers == 0
    assert not runs._agent.parts.feed._channels, "nothing is held of a run that nobody watches"


async def test_events_are_shown_only_when_they_are_durable():
    class SlowJournal(ListJournal):
        def __init__(self) -> None:
            super().__init__()
            self.durable = 0

        async def sync(self, run_id: str) -> None:
            count = len(self._events[run_id])
            await asyncio.sleep(0)
            self.durable = max(self.durable, count)

    runs = runs_of(speaker(), journal := SlowJournal())
    begun = await runs.begin(HI)
    with runs.follow(begun) as watcher:
        async for item in watcher:
            if isinstance(item, Happened):
                assert item.event.seq <= journal.durable


async def test_a_journal_that_cannot_be_written_ends_the_watch_with_the_reason():
    class FullJournal(ListJournal):
        async def sync(self, run_id: str) -> None:
            raise JournalError("the disk is full")

    runs = runs_of(speaker(), FullJournal())
    begun = await runs.begin(HI)
    items = await seen_by(runs.follow(begun))
    assert isinstance(items[-1], CutOff)
    assert items[-1].reason == "the disk is full"
    with pytest.raises(JournalError):
        await begun.result()
    await runs.stop(0)


async def test_a_run_that_waits_for_a_person_keeps_its_watchers():
    from pagi_planner.domain.model import Decision

    agent = Agent(
        speaker(),
        tools=RecordingTools({"add": lambda _: ToolOutcome("ok", 3)}, need_approval=["add"]),
    )
    runs = Runs(agent, LoneStore(agent.journal), max_concurrent=1)
    begun = await runs.begin(HI)
    watching = asyncio.create_task(seen_by(runs.follow(begun)))
    assert (await begun.result()).status is RunStatus.WAITING_APPROVAL
    assert not watching.done()
    await runs.decide(begun.run_id, "c1", Decision(approved=True))
    assert texts_of(await watching) == [FIRST, LAST]


async def test_a_cancelled_run_keeps_the_words_that_were_said():
    spoken = asyncio.Event()

    async def pause() -> None:
        if spoken.is_set():
            await asyncio.Event().wait()
        spoken.set()

    runs = runs_of(SpeakingModel(saying("Halfway there"), size=7, pause=pause))
    begun = await runs.begin(HI)
    watching = asyncio.create_task(seen_by(runs.follow(begun)))
    await spoken.wait()
    await asyncio.sleep(0)
    result = await runs.cancel(begun.run_id, "enough")
    assert result.result.endswith("Halfway")
    items = await watching
    assert items[-1].event.type is EventType.PLAN_CANCELLED
    assert texts_of(items) == ["Halfway"]


async def test_there_is_no_stream_of_no_run_nor_of_its_future():
    runs = runs_of(speaker())
    with pytest.raises(RunNotFoundError):
        await runs.watch("run-nix", Position())
    begun = await runs.begin(HI)
    await begun.result()
    with pytest.raises(InvalidArgumentError) as caught:
        await runs.watch(begun.run_id, Position(99))
    assert caught.value.field == "Last-Event-ID"
    assert not await seen_by(await runs.watch(begun.run_id, Position(10))), "all of it was seen"


class TestSlowWatchers:
    async def test_one_who_falls_behind_is_sent_away_with_a_reason_and_may_come_again(self):
        model = SpeakingModel(saying("x" * 3_000), size=10)
        runs = runs_of(model, policy=Policy(lag=LagBounds(events=100, bytes=1_000)))
        begun = await runs.begin(HI)
        slow, quick = runs.follow(begun), asyncio.create_task(seen_by(runs.follow(begun)))
        got = list(await slow.next())
        while not any(isinstance(item, TextDelta) for item in got):
            got += await slow.next()
        # It reads no more until the run is over.
        assert texts_of(await quick) == ["x" * 3_000]
        [cut] = await slow.next()
        assert isinstance(cut, CutOff)
        assert "slowly" in cut.reason
        assert not await slow.next()
        rest = await seen_by(await runs.watch(begun.run_id, cut.position))
        assert texts_of([*got, *rest]) == ["x" * 3_000]
        assert seqs_of([*got, *rest]) == seqs_of(await quick)

    async def test_too_many_events_behind_is_too_far_as_well(self):
        turns = [calling(call("add", {"a": n, "b": 1})) for n in range(8)]
        runs = runs_of(SpeakingModel(*turns, saying("done")), policy=Policy(lag=LagBounds(events=5)))
        begun = await runs.begin(HI)
        slow, quick = runs.follow(begun), asyncio.create_task(seen_by(runs.follow(begun)))
        await slow.next()
        assert len(seqs_of(await quick)) == 38
        assert [type(item) for item in await slow.next()] == [CutOff]

    async def test_one_who_reads_the_past_at_leisure_is_not_slow(self):
        turns = [calling(call("add", {"a": n, "b": 1})) for n in range(9)]
        gate = asyncio.Event()
        model = SpeakingModel(*turns, saying("done"), pause=gate.wait)
        runs = runs_of(model, policy=Policy(lag=LagBounds(events=2)))
        begun = await runs.begin(HI)
        quick = asyncio.create_task(seen_by(runs.follow(begun)))
        while model.heard < 10:
            await asyncio.sleep(0)
        late = await runs.watch(begun.run_id, Position())
        first = await late.next()
        assert len(first) == PAGE
        gate.set()
        await quick
        with late:
            assert seqs_of([*first, *[item async for item in late]]) == list(range(1, 43))


class TestAnotherText:
    async def test_a_model_that_is_asked_again_is_not_heard_twice(self):
        grown = []
        live = LiveText(3, 1, lambda live: grown.append(live.text))
        live.add("Hello, ")
        version = live.version
        live.begin_again()
        for piece in ("Hel", "lo", ", wor", "ld"):
            live.add(piece)
        assert (live.text, live.version) == ("Hello, world", version)
        assert grown == ["Hello, ", "Hello, wor", "Hello, world"]

    async def test_another_answer_takes_the_place_of_the_first(self):
        class Fickle(SpeakingModel):
            async def stream(self, request, words):
                words.add("Good mor")
                for _ in range(5):
                    await asyncio.sleep(0)
                words.begin_again()
                return await super().stream(request, words)

        runs = runs_of(Fickle(saying("Good evening")))
        items = await seen_by(runs.follow(await runs.begin(HI)))
        assert [type(item) for item in items].count(TextReset) == 1
        assert texts_of(items) == ["Good evening"]
        heard = [item.text for item in items if isinstance(item, TextDelta)]
        assert heard[0] == "Good mor"
        assert "Good evening" not in heard, "the other one is heard as it is said, too"

    async def test_after_a_restart_a_text_that_is_another_begins_anew_and_the_same_goes_on(self):
        runs = runs_of(speaker())
        begun = await runs.begin(HI)
        await begun.result()
        asked = Position(3).behind("Let me ")
        same = await seen_by(await runs.watch(begun.run_id, asked))
        assert isinstance(same[0], TextDelta)
        assert "Let me " + same[0].text == FIRST
        other = await seen_by(await runs.watch(begun.run_id, Position(3).behind("Let us ")))
        assert [type(item) for item in other[:2]] == [TextReset, TextDelta]
        assert texts_of(other) == [FIRST, LAST]
        longer = await seen_by(await runs.watch(begun.run_id, Position(3).behind(FIRST + "And")))
        assert texts_of(longer) == [FIRST, LAST]

    async def test_the_answer_in_the_journal_counts(self):
        class Liar(SpeakingModel):
            async def stream(self, request, words):
                words.add("Good morning and more")
                return await self.answer(request)

        runs = runs_of(Liar(saying("Good morning")))
        assert texts_of(await seen_by(runs.follow(await runs.begin(HI)))) == ["Good morning"]


async def test_another_planner_sees_a_run_through_the_journal():
    journal = ListJournal()
    here, there = runs_of(speaker(), journal), runs_of(speaker(), journal, Policy(poll_s=0.001))
    gate = WaitingModel(saying("done"))
    here._agent.parts.model.stream = None
    here = runs_of(gate, journal)
    begun = await here.begin(HI)
    await gate.asked.wait()
    watching = asyncio.create_task(seen_by(await there.watch(begun.run_id, Position())))
    await asyncio.sleep(0.005)
    gate.go.set()
    async with asyncio.timeout(5):
        items = await watching
    assert texts_of(items) == ["done"]
    assert seqs_of(items) == [1, 2, 3, 4, 5, 6]
    assert not there._agent.parts.feed._polls


async def test_who_leaves_late_takes_nobody_elses_sight_of_another_planners_run():
    journal = ListJournal()
    here, there = (
        runs_of(gate := WaitingModel(saying("done")), journal),
        runs_of(speaker(), journal, Policy(poll_s=0.001)),
    )
    begun = await here.begin(HI)
    await gate.asked.wait()
    with await there.watch(begun.run_id, Position()) as slow:
        slow.cut("you read too slowly")
        while not isinstance((await slow.next())[-1], CutOff):
            pass
        # It comes again before its first stream is over.
        watching = asyncio.create_task(seen_by(await there.watch(begun.run_id, slow.position)))
        await asyncio.sleep(0.005)
    gate.go.set()
    async with asyncio.timeout(5):
        assert texts_of(await watching) == ["done"]


def test_an_id_is_what_it_says():
    for position in (Position(), Position(7), Position(7).behind("Grüße"), Position(999_999_999)):
        assert Position.parse(str(position)) == position
    for rubbish in ("", "x", "-1", "1.2", "1.2.3", "1.2.0000000g", "٣", "1" * 10, "1.1.00000000 "):
        with pytest.raises(InvalidArgumentError):
            Position.parse(rubbish)


def test_each_event_belongs_to_a_phase():
    phases = {kind: phase_of(Event("r", 1, kind, None, "", "", {})) for kind in EventType}
    assert {kind for kind, phase in phases.items() if not phase} == {
        EventType.PLAN_END,
        EventType.PLAN_ERROR,
        EventType.PLAN_CANCELLED,
        # Says who works on the run, and not what on.
        EventType.RUN_RESUMED,
    }
    assert list(dict.fromkeys(phase for phase in phases.values() if phase)) == [
        "understand",
        "plan",
        "execute",
        "evaluate",
    ]


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 6), min_size=1, max_size=30),
    turns=st.lists(st.text(max_size=20), min_size=1, max_size=4),
    size=st.integers(1, 7),
    restarts=st.booleans(),
)
def test_reconnected_at_any_place_it_is_the_whole(cuts, turns, size, restarts):
    """A client that is cut off after any number of items, goes away for a while, and comes back with its last id."""

    async def check() -> None:
        script = [calling(call("add", {"a": n, "b": 1}), text=text) for n, text in enumerate(turns)]
        runs = runs_of(SpeakingModel(*script, saying("The end."), size=size))
        begun = await runs.begin(HI)
        items, position, is_over = [], Position(), False
        watcher = runs.follow(begun)
        for cut in [*cuts, 10_000]:
            with suppress(StopAsyncIteration):
                got, stream = 0, aiter(watcher)
                while got < cut:
                    item = await anext(stream)
                    items.append(item)
                    position, got = Position.parse(str(item.position)), got + 1
                await stream.aclose()
            watcher.close()
            for _ in range(cut):
                await asyncio.sleep(0)
            if restarts and cut == 6:
                await begun.result()
            watcher = await runs.watch(begun.run_id, position)
            is_over = position.seq == len(await runs._agent.journal.events(begun.run_id))
        watcher.close()
        assert is_over
        await begun.result()
        assert seqs_of(items) == list(range(1, position.seq + 1))
        assert texts_of(items) == [text for text in [*turns, "The end."] if text]

    asyncio.run(check())
