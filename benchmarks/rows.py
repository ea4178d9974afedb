"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


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


def met(is_met: bool) -> str:
    """The mark of an aim."""
    return "✓" if is_met else "✗"
