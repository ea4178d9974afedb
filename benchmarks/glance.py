"""A first look in half a minute: the plan of the bench, 16 at once, and each process's share of its processor time.

`python -m benchmarks.glance`, or `make bench-glance`. The same plan, floor and rows as `make bench ONLY=plans`, of
fewer rounds and without tracing: to see what a change is worth while one works on it. `--rounds 5` where it is to be
surer, `--at-once 1` for one plan after the other.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from benchmarks.children import BenchError, Children
from benchmarks.load import LoadGenerator
from benchmarks.plans import floor_and_mesh, level_rows, process_rows
from benchmarks.rounds import Level, measure


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.glance", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=16, metavar="PLANS")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="pagi-bench-") as folder, Children(Path(folder)) as children:
            load = LoadGenerator(children)
            targets = floor_and_mesh(children, load, Path(folder))
            series = measure(load, targets, Level(options.at_once, options.rounds, 3.0))
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write(report.table([*level_rows(series), *process_rows(series)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
