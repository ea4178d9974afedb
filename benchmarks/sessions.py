"""What the length of a session costs: whole plans in one of 1,000 turns against whole plans in sessions of 10.

A turn is a prompt with its answer. The same mesh, the same plan as in `plans`, one at a time; both kinds of session
take turns. Plans make a session longer: the short ones are many, so that none grows by more than half.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.children import Children
from benchmarks.load import LoadGenerator, Order
from benchmarks.mesh import start_mesh
from benchmarks.plans import as_json, warmed_up
from benchmarks.rounds import Level, Series, Target, await_rest, measure
from benchmarks.rows import Part, Row, met, say
from benchmarks.script import SHORT, scripted

_MANY, _FEW = 1_000, 10
_MOST = 1.3
_PLANS = 40
_FULL = Level(1, 4, 60.0, most=_PLANS)
_QUICK = Level(1, 1, 60.0, most=_PLANS)


def session_rows(folder: Path, quick: bool) -> Part:
    """Fills the sessions, then measures plans in them.

    Raises:
        BenchError: Something did not start, or a plan failed.
    """
    with Children(folder) as children:
        load = LoadGenerator(children)
        mesh = start_mesh(children, folder / "mesh", variables=scripted(folder))
        warm = warmed_up(load, mesh, "mesh")
        say(f"sessions of {_MANY:,} turns and of {_FEW}")
        short = [f"short-{number}" for number in range(_PLANS)]
        targets = [warm.of_sessions("floor", short), warm.of_sessions("mesh", ["long"])]
        for target, turns in zip(targets, (_FEW, _MANY), strict=True):
            _fill(load, target, turns)
        series = measure(load, targets, _QUICK if quick else _FULL)
    return Part(_rows(series), list(as_json(series)))


def _fill(load: LoadGenerator, target: Target, turns: int) -> None:
    most = turns * len(target.sessions)
    load.run(Order(target.port, 16, 50.0, most, prompt=SHORT, sessions=target.sessions))
    await_rest(target)


def _rows(series: Series) -> list[Row]:
    text = f"a plan in a session of {_MANY:,} turns, to one of {_FEW}"
    rows = []
    for name, value in (("p50", lambda batch: batch.p50_ms), ("processor time", lambda batch: batch.cpu_ms)):
        ratio = series.ratio("mesh", "floor", value)
        medians = series.median("floor", value), series.median("mesh", value)
        rows.append(Row(f"{text}: {name}", "ms", *medians, ratio, aim=f"{met(ratio <= _MOST)} ≤ {_MOST:g}"))
    return rows
