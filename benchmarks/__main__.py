"""Measures the mesh against its floor and prints the table: `make bench`, or `python -m benchmarks`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import bench, report
from benchmarks.children import BenchError


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a rough table in under a minute; whole: under 5 minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.stderr.write("The bench reads /proc, which this system does not have; run it on Linux.\n")
        return 1
    # SIGTERM ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    where = report.machine()
    try:
        with tempfile.TemporaryDirectory(prefix="pagi-bench-") as folder:
            figures = bench.run(bench.QUICK if options.quick else bench.FULL, Path(folder))
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    table = report.rows(figures)
    sys.stdout.write(report.markdown(where, table) + "\n")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(where, table, figures), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
