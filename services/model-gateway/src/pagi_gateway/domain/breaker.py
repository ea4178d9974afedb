"""A circuit breaker: who fails too often in a row is left alone, and tried again by one request at a time.

Source: M. Nygard, Release It!, "Circuit Breaker".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.domain.model import Circuit

if TYPE_CHECKING:
    from pagi_gateway.domain.routes import BreakerRules

# How long somebody waits who cannot be the probe, since one is under way.
_PROBE_WAIT_S = 1.0


class Breaker:
    """Of one target. Every time is in seconds on a clock that only goes up.

    Args:
        rules: When it opens and for how long.
    """

    __slots__ = ("_failures", "_open", "_open_until", "_probing", "_rest_s", "_rules")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._failures = 0
        self._open = False
        self._open_until = 0.0
        self._rest_s = rules.rest_s
        self._probing = False

    def circuit(self, now: float) -> Circuit:
        """Closed, open, or half open: rested, with room for a probe or with one under way."""
        if not self._open:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self._open_until else Circuit.HALF_OPEN

    def wait_s(self, now: float) -> float:
        """How long until a request may pass; 0 where it may now."""
        if not self._open:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        return _PROBE_WAIT_S if self._probing else 0.0

    def enter(self) -> bool:
        """A request passes, which `wait_s` allowed; returns whether it is the probe."""
        if self._open:
            self._probing = True
        return self._open

    def succeeded(self, *, probe: bool) -> None:
        """A request was answered. An old one, from before the breaker opened, does not close it."""
        if probe:
            self._open = self._probing = False
            self._rest_s = self._rules.rest_s
        if not self._open:
            self._failures = 0

    def failed(self, now: float, *, probe: bool) -> None:
        """A request failed by the target's fault."""
        if probe:
            self._probing = False
            self._rest_s = min(self._rest_s * 2, self._rules.longest_rest_s)
            self._open_until = now + self._rest_s
        elif not self._open:
            self._failures += 1
            if self._failures >= self._rules.failures:
                self._open = True
                self._open_until = now + self._rest_s

    def left(self, *, probe: bool) -> None:
        """A request ended and says nothing of the target: it was cancelled, or was itself at fault."""
        if probe:
            self._probing = False
