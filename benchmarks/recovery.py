"""What runs cost a planner that are cut off, that wait, and that are long over: `make bench ONLY=runs`.

One process with the planner's own parts over `instant` surroundings: the runs, the journal in a file with a relay, no
HTTP and no other service. So it is the planner's share alone that is measured. `python -m benchmarks.recovery` is that
process; it prints the figures as JSON.

What is cut off is asking the model for the first time: it has begun, recalled, and journaled three events of fourteen.
A new planner claims it, reads it back and goes on from there: most of what a whole run does, and its recovery besides.
What it is held against is as many whole runs, as many at once, in a planner that has warmed up.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pagi_planner import Agent, RunRequest, RunStatus
from pagi_planner.adapters.prometheus_journal import PrometheusJournal
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.after.relay import Relay
from pagi_planner.domain.keeping.keeper import Keeper
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.state.events import FINAL, Event

from benchmarks import ROOT
from benchmarks.children import BenchError
from benchmarks.instant import PROMPT, InstantMemory, InstantModel, InstantTools

AT_ONCE = 64
RECOVERED = 1_000
WAITING = 1_000
FEW, MANY = 1_000, 10_000
# As many as planners take by default (MAX_CONCURRENT_REQUESTS).
ROOM = 150


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    Attributes:
        recovery_s: From the start of a planner until every run that was cut off has ended.
        recovered: How many there were.
        undisturbed_s: What as many whole runs take that nothing cuts off, as many at once.
        begun_after_s: From the same moment until each was claimed and the first of them go on.
        waiting_kib: Resident memory for each run that waits for a person.
        waited: How many there were.
        resident_mib: Resident memory after few runs.
        grown_mib: Resident memory after many runs, over that.
    """

    recovery_s: float
    recovered: int
    undisturbed_s: float
    begun_after_s: float
    waiting_kib: float
    waited: int
    resident_mib: float
    grown_mib: float


class Planner:
    """A planner's own parts."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.model = InstantModel()
        self.tools = InstantTools()
        agent = Agent(self.model, memory=InstantMemory(), tools=self.tools, journal=PrometheusJournal(journal))
        self.runs = Runs(agent, journal, max_concurrent=ROOM)
        self.keeper = Keeper(self.runs, journal, grace_s=0.0)

    async def work(self, count: int, at_once: int = AT_ONCE) -> None:
        """Takes so many runs to where they end or wait."""
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                await (await self.runs.begin(RunRequest(PROMPT))).result()

        await asyncio.gather(*(some() for _ in range(min(at_once, count))))


@asynccontextmanager
async def planner(folder: Path) -> AsyncIterator[Planner]:
    """A planner on the journal in the folder, with a relay as its notifications have it."""
    journal = SqliteJournal(folder / "audit.db")
    await journal.start()

    async def told(events: Sequence[Event]) -> Sequence[str]:
        """Somebody hears of them, and has nothing against any."""
        return [""] * len(events)

    relay = Relay("bench", journal, FINAL, told)
    await relay.start()
    made = Planner(journal)
    try:
        yield made
    finally:
        await made.keeper.stop()
        await relay.stop()
        await journal.stop()


async def recovery(folder: Path) -> tuple[float, float]:
    """Cuts runs off while the model is asked, and has a new planner go on with them (seconds: begun, ended)."""
    remaining = RECOVERED
    while remaining:
        count = min(ROOM, remaining)
        async with planner(folder) as dead:
            dead.model.silent = True
            begun = [await dead.runs.begin(RunRequest(PROMPT)) for _ in range(count)]
            while any(not each.state.asked for each in begun):
                await asyncio.sleep(0.01)
            for each in begun:
                assert each.run
                await each.run.sync()
            await dead.runs.stop(0.0)
            with suppress(Exception):
                await asyncio.gather(*(each.result() for each in begun), return_exceptions=True)
        remaining -= count
    began = time.perf_counter()
    async with planner(folder) as alive:
        await alive.keeper.start()
        begun_s = time.perf_counter() - began
        while len((await alive.runs.find(limit=RECOVERED, status=RunStatus.COMPLETED)).runs) < RECOVERED:
            await asyncio.sleep(0.01)
        return begun_s, time.perf_counter() - began


async def undisturbed(folder: Path) -> float:
    """What as many whole runs take as are cut off, as many at once (seconds)."""
    async with planner(folder) as made:
        await made.work(ROOM, ROOM)
        began = time.perf_counter()
        await made.work(RECOVERED, ROOM)
        return time.perf_counter() - began


async def waiting(folder: Path) -> float:
    """Resident memory for each run that waits for a person (KiB)."""
    async with planner(folder) as made:
        made.tools.needs_approval = True
        await made.work(50)
        before = resident_kib()
        await made.work(WAITING)
        assert made.runs.active == 0, "a run that waits holds a task"
        return (resident_kib() - before) / WAITING


async def growth(folder: Path) -> tuple[float, float]:
    """Resident memory after few runs, and after many over that (MiB)."""
    async with planner(folder) as made:
        await made.work(FEW)
        before = resident_kib()
        await made.work(MANY - FEW)
        return before / 1024, (resident_kib() - before) / 1024


def resident_kib() -> float:
    """Resident memory of this process that no file backs; what the allocator keeps for later is given back first."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))


async def _measure() -> Figures:
    with tempfile.TemporaryDirectory(prefix="pagi-recovery-") as name:
        folder = Path(name)
        waiting_kib = await waiting(folder / "waiting")
        resident_mib, grown_mib = await growth(folder / "growth")
        undisturbed_s = await undisturbed(folder / "undisturbed")
        begun_s, recovery_s = await recovery(folder / "recovery")
    return Figures(recovery_s, RECOVERED, undisturbed_s, begun_s, waiting_kib, WAITING, resident_mib, grown_mib)


def measure() -> Figures:
    """The figures, taken in a process of their own.

    Raises:
        BenchError: It failed.
    """
    done = subprocess.run([sys.executable, "-m", "benchmarks.recovery"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise BenchError(f"the runs could not be measured: {done.stderr[-2_000:]}")
    return Figures(**json.loads(done.stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_measure()))))
