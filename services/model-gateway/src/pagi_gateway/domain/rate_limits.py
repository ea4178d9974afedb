"""Limits of requests and tokens by the minute: ours, and what is learned of the provider's from its answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagi_gateway.domain.routes import RateLimits

_NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Left:
    """What a provider said is left of something.

    Attributes:
        left: So much.
        reset_s: After so many seconds all of it is there again.
        limit: So much is all of it; None where it did not say.
    """

    left: float
    reset_s: float
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class RateReport:
    """What a provider said in an answer's headers; None where it said nothing."""

    requests: Left | None = None
    tokens: Left | None = None


class Bucket:
    """A token bucket (it holds `size`, and fills by `rate` a second), which may be overdrawn once a guess was low."""

    __slots__ = ("_at", "_level", "_rate", "_size", "_until")

    def __init__(self, level: float, rate: float, size: float, now: float, *, until: float = _NEVER) -> None:
        self._level = level
        self._rate = rate
        self._size = size
        self._at = now
        self._until = until

    def wait_s(self, now: float, amount: float) -> float:
        """How long until so much is there; what is more than the bucket can hold waits until it is full."""
        if now >= self._until:
            return 0.0
        short = min(amount, self._size) - self._filled(now)
        if short <= 0:
            return 0.0
        return min(short / self._rate if self._rate else _NEVER, self._until - now)

    def take(self, now: float, amount: float) -> None:
        """Takes it out; a negative amount is given back."""
        self._level = min(self._size, self._filled(now) - amount)
        self._at = now

    def _filled(self, now: float) -> float:
        return min(self._size, self._level + (now - self._at) * self._rate)


class TargetLimits:
    """The limits of one target. Tokens are guessed before a call and corrected after it."""

    __slots__ = ("_learned_requests", "_learned_tokens", "_requests", "_tokens", "limited")

    def __init__(self, limits: RateLimits, now: float) -> None:
        self._requests = _per_minute(limits.requests_per_minute, now)
        self._tokens = _per_minute(limits.tokens_per_minute, now)
        self._learned_requests: Bucket | None = None
        self._learned_tokens: Bucket | None = None
        self.limited = self._requests is not None or self._tokens is not None

    def wait_s(self, now: float, tokens: float) -> float:
        """How long until a request of so many tokens fits."""
        if not self.limited:
            return 0.0
        waits = [bucket.wait_s(now, 1) for bucket in (self._requests, self._learned_requests) if bucket]
        waits += [bucket.wait_s(now, tokens) for bucket in (self._tokens, self._learned_tokens) if bucket]
        return max(waits)

    def take(self, now: float, tokens: float) -> None:
        """A request of so many tokens is sent."""
        for bucket in (self._requests, self._learned_requests):
            if bucket:
                bucket.take(now, 1)
        self._take_tokens(now, tokens)

    def correct(self, now: float, guessed: float, used: float) -> None:
        """The request used another number of tokens. What the provider says is left has it counted already."""
        if self._tokens:
            self._tokens.take(now, used - guessed)

    def learn(self, now: float, report: RateReport) -> None:
        """Takes over what the provider said."""
        self._learned_requests = _learned(report.requests, now) or self._learned_requests
        self._learned_tokens = _learned(report.tokens, now) or self._learned_tokens
        self.limited = self.limited or self._learned_requests is not None or self._learned_tokens is not None

    def _take_tokens(self, now: float, tokens: float) -> None:
        for bucket in (self._tokens, self._learned_tokens):
            if bucket:
                bucket.take(now, tokens)


def _per_minute(limit: float, now: float) -> Bucket | None:
    return Bucket(limit, limit / 60, limit, now) if limit else None


def _learned(left: Left | None, now: float) -> Bucket | None:
    """Fills evenly until the time that the provider said; after it, nothing is known any more."""
    if left is None or not math.isfinite(left.left) or not 0 < left.reset_s < _NEVER:
        return None
    if left.limit is None:
        # Nothing is known of how it fills: what is left has to do until then.
        return Bucket(left.left, 0.0, math.inf, now, until=now + left.reset_s)
    size = max(left.limit, left.left, 1.0)
    return Bucket(left.left, (size - left.left) / left.reset_s, size, now, until=now + left.reset_s)
