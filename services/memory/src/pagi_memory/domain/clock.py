"""The time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Now, in UTC; what needs the time is given a function like this one."""
    return datetime.now(UTC)


def microseconds(time: datetime) -> int:
    """Since 1970; exact, which a float is not from the year 2242 on."""
    return (time - _EPOCH) // _MICROSECOND
