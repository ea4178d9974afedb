"""Measures the mesh against its floor and prints the table: `make bench`, or `python -m benchmarks`.

`--only plans` (`make bench ONLY=plans`) measures a part alone, `--only plans,starts` two; `bench.PARTS` has them all. A
first look at the plan of the bench takes half a minute: `benchmarks.glance`.
"""

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
    parser.add_argument("--quick", action="store_true", help="a rough table in under 3 minutes; whole: under 8")
    names = ", ".join(bench.PARTS)
    parser.add_argument("--only", type=_parts, default=list(bench.PARTS), metavar="PARTS", help=f"some of: {names}")
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
            parts = bench.run(options.only, Path(folder), quick=options.quick)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(report.markdown(where, [row for part in parts.values() for row in part.rows]) + "\n")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(where, parts), indent=1) + "\n", encoding="utf-8")
    return 0


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in bench.PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}; there are {', '.join(bench.PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
