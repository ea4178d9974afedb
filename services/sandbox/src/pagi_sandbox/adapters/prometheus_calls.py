"""Counts calls for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_CALLS = Counter("pagi_sandbox_calls", "Tool calls that were run, by tool and what ended them.", ["tool", "verdict"])
_SECONDS = Histogram(
    "pagi_sandbox_call_duration_seconds",
    "Wall time of a tool call.",
    ["tool"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
_RUNNING = Gauge("pagi_sandbox_running_calls", "Tool calls that run now.")
_RESTARTS = Counter("pagi_sandbox_fork_server_restarts", "Fork servers that died or hung and were replaced.")
_PROFILE = Gauge("pagi_sandbox_profile", "1 for the isolation profile that tools run under.", ["profile"])


class PrometheusCallMeter:
    """A CallMeter. A tool's name is a label: only registered tools get here, so that their number is bounded.

    A label set is looked up once: it costs more than the counting.
    """

    def __init__(self) -> None:
        """Counts for the process."""
        self._calls: dict[tuple[str, str], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        self._running = 0
        _RUNNING.set_function(lambda: self._running)

    def started(self) -> None:
        """A call begins to run."""
        self._running += 1

    def ended(self, tool: str, verdict: str, seconds: float) -> None:
        """A call that had begun is over."""
        self._running -= 1
        if (calls := self._calls.get((tool, verdict))) is None:
            self._calls[tool, verdict] = calls = _CALLS.labels(tool, verdict)
        if (took := self._seconds.get(tool)) is None:
            self._seconds[tool] = took = _SECONDS.labels(tool)
        calls.inc()
        took.observe(seconds)


def count_restart() -> None:
    """A fork server was replaced."""
    _RESTARTS.inc()


def show_profile(profile: str) -> None:
    """The isolation was found."""
    _PROFILE.clear()
    _PROFILE.labels(profile).set(1)
