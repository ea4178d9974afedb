"""A run of one planner, watched at another one: the same stream, through the journal that they share."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from pagi_planner import Agent, Policy, RunRequest
from pagi_planner.adapters.postgres_journal import PostgresJournal
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.watching.stream import Happened, Position, TextDelta, TextReset
from pagi_planner.testing import RecordingTools, ScriptedModel, SpeakingModel, call, calling, saying

FIRST, LAST = "Let me add these numbers. ", "It is 3."


async def test_a_client_that_comes_to_another_planner_misses_nothing_and_hears_nothing_twice(postgres_url):
    spoken, go = asyncio.Event(), asyncio.Event()
    pieces = 0

    async def pause() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 4:
            spoken.set()
            await go.wait()

    model = SpeakingModel(calling(call("add", {"a": 1}, "c"), text=FIRST), saying(LAST), pause=pause)
    tools = RecordingTools({"add": lambda x: ToolOutcome("ok", x)})
    async with AsyncExitStack() as stack:
        planners = []
        for each in (model, ScriptedModel()):
            journal = PostgresJournal(postgres_url, lapse_s=600)
            await journal.start()
            stack.push_async_callback(journal.stop)
            agent = Agent(each, tools=tools, journal=journal, policy=Policy(poll_s=0.02))
            planners.append(Runs(agent, journal, max_concurrent=10))
        one, other = planners
        begun = await one.begin(RunRequest("1 + 2?"))
        items = []
        with one.follow(begun) as watcher:
            while not spoken.is_set() or not any(isinstance(item, TextDelta) for item in items):
                items += await watcher.next()
        seen = Position.parse(str(items[-1].position))
        assert seen.offset
        with await other.watch(begun.run_id, seen) as watcher:
            go.set()
            async with asyncio.timeout(10):
                items += [item async for item in watcher]
        await begun.result()
        assert not [item for item in items if isinstance(item, TextReset)]
        texts = {1: "", 2: ""}
        for item in items:
            if isinstance(item, TextDelta):
                texts[item.step] += item.text
        assert texts == {1: FIRST, 2: LAST}
        seqs = [item.event.seq for item in items if isinstance(item, Happened)]
        assert seqs == [*range(1, len(seqs) + 1)]
        assert not other._agent.parts.feed._polls, "nobody is left to look for"
