"""Who works on which run: claims, their epochs, and what is handed on to the planner that has a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# A new run belongs to who begins it; each claim after that counts one up.
FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this planner may work on, until another one claims it.

    Attributes:
        epoch: Fences every write: one of an older epoch is refused.
        last_seq: The place of the newest event.
        owner: Who claims it.
    """

    run_id: str
    epoch: int
    session_id: str
    trace_id: str
    last_seq: int
    owner: str


class OrderKind(StrEnum):
    """What can be asked of the planner that works on a run."""

    CANCEL = "cancel"
    DECIDE = "decide"


@dataclass(frozen=True, slots=True)
class Order:
    """Something that another planner was asked for and only the owner of the run can do.

    Attributes:
        data: A JSON object: `reason` of a cancellation; `call_id`, `approved`, `reason`, `arguments` of a decision.
    """

    run_id: str
    kind: OrderKind
    data: dict[str, Any] = field(default_factory=dict)


class Heartbeats:
    """Tells which planners are dead: by counts that they raise, and by this process's own monotonic clock.

    No time of day is compared, so that a clock which jumps, here or there, costs nobody a run. Time in which this
    process did not look does not count either: a machine that slept must not take the others for dead.

    Args:
        lapse_s: A count that stood still for this long is that of a dead planner.
        clock: Monotonic, in seconds.
    """

    def __init__(self, lapse_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lapse_s = lapse_s
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked_at = clock()

    def look(self, beats: Mapping[str, int | None]) -> dict[str, int | None]:
        """Takes in the counts of all planners that have runs, and returns those of the dead.

        None in the place of a count: the planner has said that it leaves, and is dead at once.
        """
        now = self._clock()
        if now - self._looked_at > self._lapse_s / 2:
            self._seen.clear()
        self._looked_at = now
        seen = self._seen
        self._seen = {
            owner: was if (was := seen.get(owner)) and was[0] == beat else (beat, now)
            for owner, beat in beats.items()
            if beat is not None
        }
        return {
            owner: beat for owner, beat in beats.items() if beat is None or now - self._seen[owner][1] >= self._lapse_s
        }
