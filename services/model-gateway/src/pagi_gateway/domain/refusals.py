"""What is told where a budget has not enough left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pagi_gateway.domain.budgets import NANO
from pagi_gateway.domain.errors import BudgetError, BudgetTooSmallError

if TYPE_CHECKING:
    from pagi_gateway.domain.budgets import Amounts, Claim, Shortage

# Where calls under way hold what is left: they end, and seldom use all that they set aside.
_HELD_RETRY_S = 1.0
_UNITS = ("USD", "tokens", "requests")


def refused(shortage: Shortage, asked: Amounts, now: float) -> BudgetError:
    """What is missing now will be there later."""
    claim, kind = shortage.claim, shortage.kind
    limit = claim.limits[kind]
    assert limit is not None
    ends = datetime.fromtimestamp(claim.ends_at, UTC)
    message = (
        f"the budget {claim.budget} has {_amount(max(0, limit - shortage.spent - shortage.held), kind)} left of"
        f" {_amount(limit, kind)} {_UNITS[kind]} until {ends:%Y-%m-%dT%H:%M:%SZ}, and this call may take"
        f" {_amount(asked[kind], kind)}"
    )
    if shortage.spent + asked[kind] <= limit:
        told = f"{message}; {_amount(shortage.held, kind)} are set aside for calls that are under way"
        return BudgetError(told, retry_after_s=_HELD_RETRY_S)
    return BudgetError(message, retry_after_s=max(0.001, claim.ends_at - now))


def too_small(claim: Claim, kind: int, asked: Amounts) -> BudgetTooSmallError:
    """What a call may take will never be there."""
    limit = claim.limits[kind]
    assert limit is not None
    return BudgetTooSmallError(
        f"this call may take {_amount(asked[kind], kind)} {_UNITS[kind]}, and the whole budget {claim.budget} is"
        f" {_amount(limit, kind)}: set a smaller limits.max_output_tokens, or ask less"
    )


def _amount(value: int, kind: int) -> str:
    return f"{value / NANO:.6g}" if kind == 0 else str(value)
