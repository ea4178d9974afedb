"""How quick memory is: `make bench-memory`, or `python -m benchmarks.retrieval.speed [PASSAGES]`.

A service as a process, over gRPC as the planner asks it, with made-up passages. Each figure stands beside another of
the same run, because times alone depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient

from benchmarks import ROOT, report, usage
from benchmarks.children import BenchError, Child, Children
from benchmarks.imports import import_ms
from benchmarks.retrieval import asked, made_up, model_runs
from benchmarks.retrieval.asked import Service

_ROUNDS = 3
_QUERIES = 40
_CROWD_S = 5.0
_PLANS = 200
_RECORDED_TOGETHER = 16
_SMALL = 1_000
_MOST_RATIO_OF_FILTER = 1.5
_MOST_RATIO_OF_QUERY = 1.2
_MOST_RATIO_OF_INGESTION = 1.3


@dataclass(frozen=True, slots=True)
class Line:
    """A figure, what it stands beside, and what is aimed at."""

    figure: str
    measured: str
    beside: str = ""
    aim: str = ""
    is_met: bool | None = None

    def __str__(self) -> str:
        mark = "" if self.is_met is None else "✓ " if self.is_met else "✗ "
        return f"| {self.figure} | {self.measured} | {self.beside} | {mark}{self.aim} |"


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval.speed", description=__doc__)
    parser.add_argument("passages", nargs="?", type=int, default=20_000, help="how many; 100000 takes some minutes")
    options = parser.parse_args()
    where = report.machine()
    load = f"load average {where['load_before']} before the run"
    _say(f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, {where['date']}, {load}\n")
    _say("| figure | measured | beside | aim |\n|---|---:|---:|---|")
    try:
        with tempfile.TemporaryDirectory(prefix="pagi-memory-speed-") as folder:
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
            for line in _lines(Path(folder), options.passages):
                _say(str(line))
    except BenchError as error:
        sys.stderr.write(f"bench-memory: {error}\n")
        return 1
    return 0


def _lines(folder: Path, passages: int) -> Iterator[Line]:
    yield from _model_lines(folder)
    imported, floor = import_ms(3)["memory"]
    yield Line(
        "import, processor time",
        f"{imported:.0f} ms",
        f"{imported / floor:.1f} of a bare server",
        "< 1 s",
        imported < 1_000,
    )
    for name, count in (("small", _SMALL), ("large", passages)):
        place = folder / name
        place.mkdir()
        began = time.perf_counter()
        asyncio.run(made_up.fill(place, count))
        filled_s = time.perf_counter() - began
        with Children(place) as children, asked.running(children, place) as service:
            ready = f"ready with {count:,} passages ingested"
            if name == "small":
                yield Line(ready, f"{service.ready_s:.1f} s", "", "< 3 s", service.ready_s < 3)
                continue
            yield Line(ready, f"{service.ready_s:.1f} s", f"filled in {filled_s:.0f} s, not embedded")
            yield from _service_lines(children, service)


def _model_lines(folder: Path) -> Iterator[Line]:
    query = asyncio.run(model_runs.query_ms())
    beside = f"{query.ratio:.2f} of the bare model, processor time {query.cpu_ratio:.2f}"
    aim = f"≤ {_MOST_RATIO_OF_QUERY} of the bare model's processor time"
    is_met = query.cpu_ratio <= _MOST_RATIO_OF_QUERY
    yield Line("embedding of a short query", f"{query.ours:.2f} ms", beside, aim, is_met)
    taken = asyncio.run(model_runs.ingestion(folder, ROOT / "knowledge_bases"))
    aim = f"≤ {_MOST_RATIO_OF_INGESTION} of the bare model"
    busy = f"{taken.ratio:.2f} of the bare model (processor time {taken.cpu_ratio:.2f}), {taken.cores:.1f} cores busy"
    yield Line("ingestion", f"{taken.ours:.1f} ms a passage", busy, aim, taken.ratio <= _MOST_RATIO_OF_INGESTION)


def _service_lines(children: Children, service: Service) -> Iterator[Line]:
    floor = children.start_module("floor", "benchmarks.floor_server")
    probe = children.start_module("probe", "benchmarks.retrieval.health_probe")
    with asyncio.Runner() as runner:
        yield from runner.run(_context_lines(service, floor.listen()["port"]))
        yield runner.run(_crowd_line(service, probe))
        yield from runner.run(_plan_lines(service))
        resident = usage.own_pss_mib(service.child.pid)
        yield Line("resident memory (PSS)", f"{resident:.0f} MiB", "", "< 1 GB", resident < 954)
        runner.run(service.client.close())


async def _context_lines(service: Service, floor_port: int) -> list[Line]:
    await service.connect()
    words = made_up.Words(seed=2)
    await service.remember(words)
    floor = GrpcClient(f"127.0.0.1:{floor_port}")
    bare = memory_pb2_grpc.MemoryStub(floor.channel)

    async def echo(query: str) -> None:
        await floor.call(bare.GetContext, pb.GetContextRequest(session_id="s", query=query), timeout_s=5)

    async def other(query: str) -> None:
        await service.context(query, persona=made_up.OTHER)

    async def of_body(query: str) -> None:
        await service.passages(query, pb.KNOWLEDGE_BASE_BODY)

    took: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        queries = [words.text(8) for _ in range(_QUERIES)]
        for name, ask in (
            ("bare", echo),
            ("new", service.context),
            ("known", service.context),
            ("other", other),
            ("passages", service.passages),
            ("body", of_body),
        ):
            took.setdefault(name, []).append(await asked.p50_ms(ask, queries))
    await floor.close()

    def ratio(name: str, to: str) -> float:
        return statistics.median(a / b for a, b in zip(took[name], took[to], strict=True))

    new, known = min(took["new"]), min(took["known"])
    persona, base = ratio("other", "known"), ratio("body", "passages")
    aim = f"≤ {_MOST_RATIO_OF_FILTER} of unfiltered"
    return [
        Line(
            "`GetContext`, new query, p50",
            f"{new:.1f} ms",
            f"{ratio('new', 'bare'):.0f} of an empty call",
            "< 25 ms",
            new < 25,
        ),
        Line(
            "`GetContext`, known query, p50",
            f"{known:.1f} ms",
            f"{ratio('known', 'bare'):.0f} of an empty call",
            "< 8 ms",
            known < 8,
        ),
        Line(
            "the same of another persona",
            f"{min(took['other']):.1f} ms",
            f"{persona:.2f} of unfiltered",
            aim,
            persona <= _MOST_RATIO_OF_FILTER,
        ),
        Line(
            "`GetRAGContext` in one knowledge base",
            f"{min(took['body']):.1f} ms",
            f"{base:.2f} of unfiltered",
            aim,
            base <= _MOST_RATIO_OF_FILTER,
        ),
    ]


async def _crowd_line(service: Service, probe: Child) -> Line:
    words = made_up.Words(seed=3)
    queries = [words.text(8) for _ in range(10_000)]
    alone = await asyncio.to_thread(probe.ask, {"port": service.http_port, "seconds": 1})
    asking = asyncio.create_task(asked.crowd(service.context, queries, _CROWD_S + 1))
    await asyncio.sleep(0.5)
    among = sorted(await asyncio.to_thread(probe.ask, {"port": service.http_port, "seconds": _CROWD_S}))
    answered = await asking
    p99 = among[int(len(among) * 0.99)]
    beside = f"p50 {statistics.median(among):.0f} ms, alone {statistics.median(alone):.1f} ms, {answered} answers"
    return Line(f"`/health` while {asked.CALLERS} ask for contexts, p99", f"{p99:.0f} ms", beside, "< 50 ms", p99 < 50)


async def _plan_lines(service: Service) -> list[Line]:
    words = made_up.Words(seed=4)
    lines = []
    for name, queries in (
        ("new prompts", [words.text(8) for _ in range(_PLANS)]),
        ("a known prompt", [words.text(8)] * _PLANS),
    ):
        before = usage.cpu_s([service.child])["memory"]
        runs: list[pb.RunRecord] = []

        async def plan(query: str, runs: list[pb.RunRecord] = runs) -> None:
            runs.append(await service.plan(query))
            if len(runs) >= _RECORDED_TOGETHER:
                together, runs[:] = list(runs), []
                await service.record(together)

        await asked.crowd(plan, queries, 60)
        await asyncio.sleep(1)
        spent = (usage.cpu_s([service.child])["memory"] - before) * 1e3 / _PLANS
        lines.append(Line(f"processor time a plan, {name}", f"{spent:.1f} ms", "context, history, playbook, outcomes"))
    return lines


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
