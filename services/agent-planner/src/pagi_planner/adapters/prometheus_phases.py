"""How long the phases of runs take, as Prometheus reads it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from prometheus_client import Histogram

SECONDS = Histogram(
    "pagi_planner_phase_duration_seconds",
    "Time in one phase of a run: understand, plan, ask, act, evaluate, answer",
    ["phase"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)


class PrometheusPhases:
    """Measures phases into a histogram."""

    def __init__(self) -> None:
        self._children: dict[str, Histogram] = {}

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Measures the block."""
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = SECONDS.labels(name)
        return child.time()
