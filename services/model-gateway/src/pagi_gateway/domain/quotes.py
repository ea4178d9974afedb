"""What a call may cost before it is made, and what it has cost after it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagi_chassis.errors import DeadlineExceededError

from pagi_gateway.domain.budgets import NANO, Amounts
from pagi_gateway.domain.errors import ProviderFaultError
from pagi_gateway.domain.estimates import tokens_of
from pagi_gateway.domain.model import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.domain.model import Attempt, Plan
    from pagi_gateway.domain.prices import ModelPrice

# An attempt that ended so may have been billed, although nobody said what for.
_PERHAPS_BILLED = "ProviderTimeout"


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call may use at most.

    Attributes:
        input_tokens: Estimated.
        output_tokens: Sent as its limit.
        prices: Of all models that may answer, as far as they are known.
    """

    input_tokens: int
    output_tokens: int
    prices: Sequence[ModelPrice] = ()

    def most(self) -> Amounts:
        """To be set aside."""
        usd = max((price.most_usd(self.input_tokens, self.output_tokens) for price in self.prices), default=0.0)
        return Amounts(_nano(usd), self.input_tokens + self.output_tokens, 1)

    def used_by_answer(self, plan: Plan) -> Amounts:
        """What an answer used, with all attempts that led to it."""
        if not plan.attempts:
            return self._used([self._counted(plan.usage, plan)])
        return self._used(
            [
                usage
                for attempt in plan.attempts
                if (usage := self._of_attempt(attempt, plan if attempt.outcome == "ok" else None)) is not None
            ]
        )

    def used_by_failure(self, error: BaseException, streamed_tokens: int) -> Amounts:
        """What a call used that has no answer.

        A provider that refused, or was not reached, bills nothing. One that was left in the middle bills what it read
        and wrote so far, and does not say how much: that is estimated.
        """
        attempts = _attempts(error)
        late = isinstance(error, DeadlineExceededError) and not attempts
        estimated = bool(streamed_tokens) or late or not isinstance(error, Exception)
        if streamed_tokens and attempts:
            # The last one wrote it: it is not counted besides, and where it said itself what it used, that counts.
            last = attempts[-1].usage
            estimated = last is None or not last.reported
            attempts = attempts[:-1] if estimated else attempts
        used = [usage for attempt in attempts if (usage := self._of_attempt(attempt, None)) is not None]
        return self._used([*used, self._estimated(streamed_tokens)] if estimated else used)

    def _of_attempt(self, attempt: Attempt, plan: Plan | None) -> Usage | None:
        if attempt.usage is not None:
            return self._counted(attempt.usage, plan)
        return self._estimated(0) if attempt.outcome == _PERHAPS_BILLED else None

    def _counted(self, usage: Usage, plan: Plan | None) -> Usage:
        """What was reported; where nothing was, an estimate."""
        if usage.reported:
            return usage
        written = 0
        if plan is not None:
            written = tokens_of(plan.text) + sum(tokens_of(call.arguments_json) for call in plan.tool_calls)
            written += sum(tokens_of(each.text) for each in plan.reasoning)
        return self._estimated(written)

    def _estimated(self, written: int) -> Usage:
        return Usage(self.input_tokens, written)

    def _used(self, usages: Sequence[Usage]) -> Amounts:
        tokens = sum(usage.input_tokens + usage.output_tokens for usage in usages)
        return Amounts(sum(map(self._cost, usages)), tokens, 1)

    def _cost(self, usage: Usage) -> int:
        if usage.cost_usd is not None:
            return _nano(usage.cost_usd)
        return _nano(max((price.cost_usd(usage) for price in self.prices), default=0.0))


def _attempts(error: BaseException) -> Sequence[Attempt]:
    return error.attempts if isinstance(error, ProviderFaultError) else ()


def _nano(usd: float) -> int:
    """In billionths, rounded up: but not for the last bit of a float."""
    return math.ceil(usd * NANO - 1e-6)
