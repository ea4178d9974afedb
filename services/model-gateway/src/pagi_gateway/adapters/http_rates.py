"""Reads what providers say in an answer's headers of their limits.

Sources: OpenAI's guide to rate limits (`x-ratelimit-*`, resets as `1s` or `6m0s`; Groq, Azure and others do the same),
Anthropic's (`anthropic-ratelimit-*`, resets as RFC 3339).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pagi_gateway.domain.rate_limits import Left, RateReport

if TYPE_CHECKING:
    from collections.abc import Mapping

# Digits are bounded: a provider may send anything, and this is read on every answer.
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|h|m|s)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S = 86_400.0
# What is left came without a time (Azure): it is heeded for a moment, in which most of it comes back anyway.
_UNKNOWN_RESET_S = 1.0


def rate_report(headers: Mapping[str, str]) -> RateReport | None:
    """What is left of the provider's limits; None where the headers do not say."""
    if "x-ratelimit-remaining-requests" in headers or "x-ratelimit-remaining-tokens" in headers:
        return RateReport(
            _left(headers, "x-ratelimit-{}-requests"),
            _left(headers, "x-ratelimit-{}-tokens"),
        )
    if "anthropic-ratelimit-requests-remaining" in headers or "anthropic-ratelimit-tokens-remaining" in headers:
        return RateReport(
            _left(headers, "anthropic-ratelimit-requests-{}"),
            _left(headers, "anthropic-ratelimit-tokens-{}"),
        )
    return None


def _left(headers: Mapping[str, str], name: str) -> Left | None:
    left = _number(headers.get(name.format("remaining")))
    if left is None:
        return None
    reset_s = _until(headers.get(name.format("reset")))
    return Left(left, _UNKNOWN_RESET_S if reset_s is None else reset_s, _number(headers.get(name.format("limit"))))


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,15}(?:\.\d{1,9})?", text) else None


def _until(text: str | None) -> float | None:
    """Seconds until a reset: `6m0s`, `20ms`, `12`, or a time."""
    if not text:
        return None
    if (seconds := _number(text)) is not None:
        return min(seconds, _LONGEST_S)
    pieces = _DURATION.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        return min(sum(float(number) * _UNIT_S[unit] for number, unit in pieces), _LONGEST_S)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return min(max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()), _LONGEST_S)
