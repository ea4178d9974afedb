"""The moment by which the work in progress must be done. gRPC does not pass it to onward calls, so we do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("pagi_deadline", default=None)


def remaining_s() -> float | None:
    """Seconds that are left, never negative; None where nobody set a deadline."""
    at = _deadline.get()
    return None if at is None else max(0.0, at - time.monotonic())


def within(timeout_s: float) -> float:
    """The smaller of `timeout_s` and what is left."""
    left = remaining_s()
    return timeout_s if left is None else min(timeout_s, left)


def adopt(seconds: float | None) -> None:
    """Sets the deadline for the rest of the running task: for an edge, where the task is the request."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Sets the deadline for the block; an earlier one stays in force."""
    before = _deadline.get()
    _deadline.set(time.monotonic() + within(seconds))
    try:
        yield
    finally:
        # Not reset(): an abandoned generator is ended in another context, which would refuse the token.
        _deadline.set(before)
