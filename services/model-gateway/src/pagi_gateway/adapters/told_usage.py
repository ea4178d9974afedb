"""What a provider says an answer used, as far as it can be true: budgets count by it."""

from __future__ import annotations

import math

from pagi_gateway.domain.model import Usage

# No model reads or writes so much in one call, and none costs so much.
_MOST_TOKENS = 1_000_000_000
_MOST_USD = 100_000.0


def told_usage(
    input_tokens: float | None,
    output_tokens: float | None,
    *,
    cost_usd: float | None = None,
    cached_input_tokens: float | None = None,
    cache_write_tokens: float | None = None,
    reasoning_tokens: float | None = None,
) -> Usage:
    """The usage; not reported where nothing was said, or what cannot be: less than nothing, or beyond any answer."""
    read, written = _count(input_tokens), _count(output_tokens)
    if read is None or written is None or (input_tokens is None and output_tokens is None):
        return Usage()
    return Usage(
        read,
        written,
        cost_usd if cost_usd is not None and 0 <= cost_usd <= _MOST_USD else None,
        reported=True,
        cached_input_tokens=_count(cached_input_tokens) or 0,
        cache_write_tokens=_count(cache_write_tokens) or 0,
        reasoning_tokens=_count(reasoning_tokens) or 0,
    )


def _count(told: float | None) -> int | None:
    """The number of tokens, 0 where none was said; None where that is no number of tokens."""
    return math.ceil(told or 0) if 0 <= (told or 0) <= _MOST_TOKENS else None
