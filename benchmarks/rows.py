"""What a part of the bench gives: lines of the table, and the figures that they were made from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure: of the floor, of the mesh with tracing off and on, the ratios, and what is aimed at."""

    figure: str
    unit: str
    floor: float | None
    mesh: float | None
    ratio: float | None
    traced: float | None = None
    traced_ratio: float | None = None
    on_to_off: float | None = None
    aim: str = ""

    def aimed(self, aim: str) -> Row:
        """The same with what is aimed at."""
        return replace(self, aim=aim)

    def with_traced(self, traced: float, *, to_floor: float | None = None, on_to_off: float | None = None) -> Row:
        """The same with what was measured with tracing on; ratios that are not given are those of the figures."""
        if to_floor is None and self.floor:
            to_floor = traced / self.floor
        if on_to_off is None and self.mesh:
            on_to_off = traced / self.mesh
        return replace(self, traced=traced, traced_ratio=to_floor, on_to_off=on_to_off)


@dataclass(frozen=True)
class Part:
    """What one part of the bench measured.

    Attributes:
        rows: Its lines of the table.
        details: What they were made from, fit for JSON.
    """

    rows: Sequence[Row]
    details: Any = None


def met(is_met: bool) -> str:
    """The mark of an aim."""
    return "✓" if is_met else "✗"


def say(what: str) -> None:
    """Tells the person who waits what is measured now."""
    sys.stderr.write(f"bench: {what}\n")
