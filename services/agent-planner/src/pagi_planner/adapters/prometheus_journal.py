"""Counts runs as they pass through the journal, so that the loop needs to know nothing of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Counter, Histogram

from pagi_planner.domain.model import RunStatus
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.ports import Journal
from pagi_planner.domain.state.events import FINAL, Event, EventType

RUNS = Counter("pagi_planner_runs", "Runs that ended", ["status"])
RESUMED = Counter("pagi_planner_resumed_runs", "Runs taken up where another process had left them")
SECONDS = Histogram(
    "pagi_planner_run_duration_seconds",
    "Time from the first event of a run to its last",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
_STATUSES = {EventType.PLAN_ERROR: RunStatus.FAILED, EventType.PLAN_CANCELLED: RunStatus.CANCELLED}


class PrometheusJournal:
    """A journal that counts and hands everything on.

    Args:
        journal: Where the events are kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._began: dict[str, datetime] = {}

    def append(self, event: Event, epoch: int = FIRST_EPOCH) -> None:
        """Counts the event where it ends a run or takes one up, and appends it."""
        self._journal.append(event, epoch)
        if event.type is EventType.PLAN_START:
            self._began[event.run_id] = event.timestamp
        elif event.type is EventType.RUN_RESUMED:
            RESUMED.inc()
        elif event.type in FINAL:
            RUNS.labels(_STATUSES.get(event.type) or event.data["status"]).inc()
            # A run that an earlier process began is counted and not timed.
            if began := self._began.pop(event.run_id, None):
                SECONDS.observe((event.timestamp - began).total_seconds())

    async def sync(self, run_id: str) -> None:
        """Waits until everything appended so far is durable."""
        await self._journal.sync(run_id)

    async def events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The events of a run in order."""
        return await self._journal.events(run_id, after=after, limit=limit)
