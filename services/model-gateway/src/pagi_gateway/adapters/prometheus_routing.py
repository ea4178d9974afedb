"""Counts and logs what routing does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from pagi_gateway.domain.model import Circuit

if TYPE_CHECKING:
    from pagi_gateway.domain.model import Attempt

log = logging.getLogger(__name__)

ATTEMPTS = Counter("pagi_gateway_attempts", "Calls of a target", ["target", "outcome"])
FAILOVERS = Counter("pagi_gateway_failovers", "Calls that were followed by another for the same request", ["target"])
EJECTIONS = Counter("pagi_gateway_ejections", "Times that a target was left alone as worse than the others", ["target"])
OPEN = Gauge("pagi_gateway_circuit_open", "1 where a target is left alone after failures in a row", ["target"])


class PrometheusRouting:
    """What routing tells, as metrics, and as a line of the log where it went wrong."""

    def __init__(self) -> None:
        # A label set is looked up once: it costs more than the rest of a call's routing.
        self._ok: dict[str, Counter] = {}
        self._open: set[str] = set()

    def attempted(self, asked: str, attempt: Attempt, *, next_one: bool) -> None:
        """See `RoutingWatch`."""
        if attempt.outcome == "ok":
            if (count := self._ok.get(attempt.target)) is None:
                self._ok[attempt.target] = count = ATTEMPTS.labels(attempt.target, "ok")
            count.inc()
            return
        ATTEMPTS.labels(attempt.target, attempt.outcome).inc()
        if next_one:
            FAILOVERS.labels(attempt.target).inc()
        log.warning(
            "target %s failed a request for %s: %s (%s)",
            attempt.target,
            asked,
            attempt.message,
            "another call is made" if next_one else "no other call is made",
            extra={"target": attempt.target, "outcome": attempt.outcome, "latency_ms": attempt.latency_ms},
        )

    def circuit(self, target: str, circuit: Circuit) -> None:
        """See `RoutingWatch`."""
        OPEN.labels(target).set(circuit is not Circuit.CLOSED)
        if circuit is Circuit.CLOSED:
            if target in self._open:
                self._open.discard(target)
                log.info("target %s answers again", target)
        elif target not in self._open:
            self._open.add(target)
            log.warning("target %s failed too often in a row: it is left alone for a while", target)

    def ejected(self, alias: str, target: str) -> None:
        """See `RoutingWatch`."""
        EJECTIONS.labels(target).inc()
        log.warning("target %s fails more often than the others of %s: it is left alone for a while", target, alias)

    def forgotten(self, target: str) -> None:
        """See `RoutingWatch`. A circuit that nobody closes any more would be an alarm for ever."""
        if target in self._open:
            self._open.discard(target)
            OPEN.remove(target)
