"""The lines of the sandbox: its floor is a bare interpreter, or a gRPC echo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.isolated import CONCURRENCY, SandboxFigures, Turns, measure_sandbox
from benchmarks.ratios import Pairs
from benchmarks.rows import Part, Row, met, say

_FULL = Turns(rounds=12, calls=5, seconds=25.0, flood_s=1.0)
_QUICK = Turns(rounds=3, calls=3, seconds=3.0, flood_s=0.3)

_MOST = {"L1": 0.7, "L2": 1.0}
_NUMPY_RATIO = 0.2
_CALLS_A_SECOND = 150
# 40 MB.
_FORK_SERVER_MIB = 40e6 / 2**20


def sandbox_rows(folder: Path, quick: bool) -> Part:
    """Measures isolated calls.

    Raises:
        BenchError: A sandbox did not start, or a call failed.
    """
    say("isolated calls")
    figures = measure_sandbox(folder, _QUICK if quick else _FULL)
    return Part(list(_rows(figures)), asdict(figures))


def _rows(figures: SandboxFigures) -> Iterator[Row]:
    for profile, pairs in figures.print_ms.items():
        most = _MOST.get(profile)
        figure = f"`print(1)` isolated, {profile}, to a bare interpreter: p50"
        yield _row(figure, "ms", pairs, f"{met(pairs.ratio <= most)} ≤ {most:g}" if most else "")
    if figures.numpy_ms:
        aim = f"{met(figures.numpy_ms.ratio <= _NUMPY_RATIO)} ≤ {_NUMPY_RATIO:g}"
        yield _row(f"a line of numpy, {figures.highest}, to a bare interpreter: p50", "ms", figures.numpy_ms, aim)
    yield _row(f"`math`, {figures.highest}, to a gRPC echo: p50", "ms", figures.math_ms)
    for profile, pairs in figures.rates.items():
        aim = f"{met(pairs.medians[1] >= _CALLS_A_SECOND)} ≥ {_CALLS_A_SECOND} /s"
        yield _row(f"`print(1)` isolated, {profile}, {CONCURRENCY} at once: calls a second", "/s", pairs, aim)
    yield Row("fork server, alone (PSS)", "MiB", None, figures.fork_server_mib, None)
    aim = f"{met(figures.with_spares_mib < _FORK_SERVER_MIB)} < 40 MB"
    yield Row("fork server with its spares (PSS)", "MiB", None, figures.with_spares_mib, None, aim=aim)


def _row(figure: str, unit: str, pairs: Pairs, aim: str = "") -> Row:
    return Row(figure, unit, *pairs.medians, pairs.ratio, aim=aim)
