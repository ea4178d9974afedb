"""The service's metrics."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge, Histogram

from pagi_notifier.domain.model import Backlog

DELIVERED = Counter("pagi_notifier_delivered", "Notifications delivered.", ["channel", "status"])
FAILED = Counter("pagi_notifier_failed", "Attempts that failed and are repeated.", ["channel"])
DEAD = Counter("pagi_notifier_dead", "Notifications given up, by reason.", ["reason"])
for _reason in ("unreadable", "undeliverable"):
    # A counter that first appears at 1 has not grown, to Prometheus: the first loss would raise no alert.
    DEAD.labels(_reason)
REDELIVERED = Counter("pagi_notifier_redeliveries", "Entries taken over from a silent consumer, or tried again.")
DELAY = Histogram(
    "pagi_notifier_delivery_delay_seconds",
    "From publication to the end of delivery.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 120, 600),
)
PENDING = Gauge("pagi_notifier_pending_entries", "Entries taken by a consumer and not acknowledged.")
UNREAD = Gauge("pagi_notifier_unread_entries", "Entries that no consumer has taken; NaN where Redis cannot tell.")
DEAD_LETTERS = Gauge("pagi_notifier_dead_letter_entries", "Entries in the dead-letter stream.")
REDIS_UP = Gauge("pagi_notifier_redis_up", "1 while Redis answers, 0 while it does not.")


def show_backlog(backlog: Backlog) -> None:
    """Sets the gauges."""
    PENDING.set(backlog.pending)
    UNREAD.set(math.nan if backlog.unread is None else backlog.unread)
    DEAD_LETTERS.set(backlog.dead)
