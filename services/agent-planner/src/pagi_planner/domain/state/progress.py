"""Whether a run gets anywhere: the same call with the same result, or the same error, again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pagi_planner.domain.model import ToolCall

# The same tool, the same error, one directly after the other.
MOST_SAME_ERRORS = 5
NUDGE = (
    "\n\nYou have made this call several times with the same result. Do something else, or answer with what you have."
)


@dataclass(slots=True)
class Progress:
    """What the calls of a run have brought so far."""

    _same: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    _error: tuple[str, str] = ("", "")
    _errors: int = 0

    def note(self, call: ToolCall, observation: str, error: str) -> None:
        """Takes in what came of a call."""
        key = (call.name, call.arguments_json)
        self._same[key] = (self._times(key, observation) + 1, _digest(observation))
        seen = (call.name, error)
        self._errors = (self._errors + 1 if seen == self._error else 1) if error else 0
        self._error = seen

    def is_last_time(self, call: ToolCall, observation: str, most: int) -> bool:
        """Whether the call must not be made once more with this result."""
        return self._times((call.name, call.arguments_json), observation) + 1 == most

    def fault(self, calls: Sequence[ToolCall], most: int) -> str:
        """Why these calls must not be made; empty where they may be.

        Args:
            calls: Of one turn.
            most: How often the same call may have the same result.
        """
        if calls:
            for key, times in Counter((call.name, call.arguments_json) for call in calls).items():
                if self._same.get(key, (0, 0))[0] + times > most:
                    return f"the model called {key[0]} with the same arguments again and again"
        if self._errors >= MOST_SAME_ERRORS:
            return f"{self._error[0]} failed in the same way again and again: {self._error[1]}"
        return ""

    def _times(self, key: tuple[str, str], observation: str) -> int:
        """How often in a row the call has had this result."""
        times, digest = self._same.get(key, (0, 0))
        return times if digest == _digest(observation) else 0


def _digest(observation: str) -> int:
    return hash(observation.removesuffix(NUDGE))
