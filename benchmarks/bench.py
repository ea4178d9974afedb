"""The parts of the bench, in the order of the table. Each starts what it needs and ends it, and can run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.imports import import_rows
from benchmarks.journal import journal_rows
from benchmarks.plans import plan_rows
from benchmarks.rows import Part
from benchmarks.runs import run_rows
from benchmarks.sandbox_rows import sandbox_rows
from benchmarks.sessions import session_rows
from benchmarks.starts import start_rows
from benchmarks.streaming import stream_rows

# Given a folder for data and logs, and whether to measure only roughly.
Measure = Callable[[Path, bool], Part]

PARTS: Mapping[str, Measure] = {
    "plans": plan_rows,
    "journal": journal_rows,
    "sessions": session_rows,
    "streams": stream_rows,
    "runs": run_rows,
    "starts": start_rows,
    "imports": import_rows,
    "sandbox": sandbox_rows,
}


def run(names: Sequence[str], folder: Path, *, quick: bool) -> Mapping[str, Part]:
    """Measures parts one after the other.

    Args:
        names: Which.
        folder: For data and logs, one below it for each; the caller deletes it.
        quick: Only roughly.

    Raises:
        BenchError: Something did not start, or a plan failed.
    """
    # Tools may run as users of their own, who pass through it to their workspaces.
    folder.chmod(0o711)
    parts = {}
    for name in names:
        below = folder / name
        below.mkdir(mode=0o711)
        parts[name] = PARTS[name](below, quick)
    return parts
