"""Measures the mesh against its floor: the same chain of bare RPCs to processes that do nothing.

docs/performance.md says what is measured and how to read it. Run: `make bench`, or `python -m benchmarks` at the root.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The harness's modules, which are no distribution, know how the services are started, found and ended.
sys.path.insert(0, str(ROOT / "scripts"))
