"""Notifications, and the entries of the inbox that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What happened to a run."""

    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    APPROVAL_REQUESTED = "APPROVAL_REQUESTED"


class Outcome(StrEnum):
    """What became of one attempt to deliver."""

    DELIVERED = "delivered"
    FAILED = "failed"  # it stays in the inbox and is tried again
    DEAD = "dead"  # it was given up and moved aside


@dataclass(frozen=True, slots=True)
class Notification:
    """What a person or a system is told."""

    trace_id: str
    status: Status
    run_id: str = ""
    session_id: str = ""
    result: str = ""
    """The run's answer, or why it failed."""
    timestamp: str = ""
    """When it happened: RFC 3339, UTC."""
    traceparent: str = ""
    """W3C Trace Context of the span that published it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the inbox, taken by this consumer."""

    id: str
    payload: bytes
    """Protobuf JSON of pagi.events.v1.Notification; empty where the entry has no such field."""
    deliveries: int = 1
    """Which attempt this is. The first take of a batch is none yet: who died then may have tried another of it."""
    published_s: float = 0.0
    """When it was published, in seconds since the epoch, by the clock of the inbox."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is not delivered yet."""

    pending: int
    """Entries that a consumer took and has not acknowledged."""
    unread: int | None
    """Entries that no consumer has taken; None where the server cannot tell."""
    dead: int
    """Entries that were given up."""
