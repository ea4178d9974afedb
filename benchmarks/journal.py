"""The journal's share of a plan: the same plan in one process with the journal of the service and with one in a list.

Both agents are the planner's own, over `instant` surroundings; no HTTP, no gRPC and no other process. They take turns.
What is told apart is all that SQLite adds: encoding fourteen events, the writer thread, the commits that a plan waits
for. Making the events is in both. Reading them again for notifications and histories is in neither: that stands in the
planner's processor time of a whole plan.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from pagi_planner import Agent, RunRequest
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.standalone import ListJournal

from benchmarks.instant import PROMPT, InstantMemory, InstantModel, InstantTools
from benchmarks.ratios import Pairs
from benchmarks.rows import Part, Row, met, say

_MOST_MS = 0.6
_AT_ONCE = (1, 16)
_ROUNDS = 12
_PLANS = 160
_WARM_UP = 40


@dataclass(frozen=True)
class Share:
    """With so many plans at once, with the list and with SQLite, in milliseconds a plan."""

    at_once: int
    p50_ms: Pairs
    cpu_ms: Pairs


def journal_rows(folder: Path, quick: bool) -> Part:
    """Measures both journals."""
    say("the journal's share of a plan")
    shares = uvloop.run(_measure(folder / "audit.db", 3 if quick else _ROUNDS))
    return Part([row for share in shares for row in _rows(share)])


def _rows(share: Share) -> Iterator[Row]:
    figures = {"p50": share.p50_ms} if share.at_once == 1 else {}
    for name, pairs in {**figures, "processor time": share.cpu_ms}.items():
        text = f"journal in SQLite, to one in a list, {share.at_once} at once in one process: {name} a plan"
        aim = f"{met(pairs.more < _MOST_MS)} {pairs.more:.2f} ms more, < {_MOST_MS:g} ms"
        yield Row(text, "ms", *pairs.medians, pairs.ratio, aim=aim)


async def _measure(path: Path, rounds: int) -> list[Share]:
    journal = SqliteJournal(path)
    await journal.start()
    try:
        kept = _agent(journal)
        await _batch(kept, 1, _WARM_UP)
        shares = []
        for at_once in _AT_ONCE:
            share = Share(at_once, Pairs(), Pairs())
            for number in range(rounds):
                # A new list each time, since it keeps everything.
                sides = [(_agent(ListJournal()), False), (kept, True)]
                for agent, is_ours in sides if number % 2 else reversed(sides):
                    p50_ms, cpu_ms = await _batch(agent, at_once, _PLANS)
                    (share.p50_ms.ours if is_ours else share.p50_ms.base).append(p50_ms)
                    (share.cpu_ms.ours if is_ours else share.cpu_ms.base).append(cpu_ms)
            shares.append(share)
        return shares
    finally:
        await journal.stop()


def _agent(journal: SqliteJournal | ListJournal) -> Agent:
    return Agent(InstantModel(), memory=InstantMemory(), tools=InstantTools(), journal=journal)


async def _batch(agent: Agent, at_once: int, plans: int) -> tuple[float, float]:
    """The median time of a plan, and the processor time of one over all threads (milliseconds)."""
    left = itertools.repeat(None, plans)
    took: list[float] = []

    async def work() -> None:
        for _ in left:
            began = time.perf_counter()
            await agent.run(RunRequest(PROMPT))
            took.append((time.perf_counter() - began) * 1000)

    before = time.process_time()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return statistics.median(took), (time.process_time() - before) * 1000 / plans
