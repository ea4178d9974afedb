"""The time."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Now, in UTC; what needs the time is given a function like this one."""
    return datetime.now(UTC)
