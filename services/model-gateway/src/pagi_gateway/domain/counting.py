"""Counts in one process what budgets limit: sets aside before a call, settles after it, releases what died."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagi_gateway.domain.budgets import Amounts, Shortage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagi_gateway.domain.budgets import Claim


_NOTHING = Amounts()


@dataclass(slots=True)
class Counter:
    """What was spent, and what calls under way may still spend, by call."""

    spent: Amounts = _NOTHING
    held: Amounts = _NOTHING
    leases: dict[str, tuple[float, Amounts]] = field(default_factory=dict)
    _first_death: float = math.inf

    def hold(self, call_id: str, until: float, asked: Amounts) -> None:
        """Sets aside for a call."""
        self.leases[call_id] = (until, asked)
        self.held = _plus(self.held, asked)
        self._first_death = min(self._first_death, until)

    def release_dead(self, now: float) -> None:
        """Lets go of what calls set aside that did not settle in their time."""
        if now < self._first_death:
            return
        dead = [call_id for call_id, (until, _) in self.leases.items() if until <= now]
        for call_id in dead:
            self.held = _minus(self.held, self.leases.pop(call_id)[1])
        self._first_death = min((until for until, _ in self.leases.values()), default=math.inf)

    def lacks(self, claim: Claim, asked: Amounts) -> Shortage | None:
        """What is not left of the budget."""
        for kind, limit in enumerate(claim.limits):
            if limit is not None and self.spent[kind] + self.held[kind] + asked[kind] > limit:
                return Shortage(claim, kind, self.spent[kind], self.held[kind])
        return None


def set_aside(
    counters: Mapping[str, Counter],
    call_id: str,
    claims: Sequence[Claim],
    asked: Amounts,
    *,
    now: float,
    lease_s: float,
) -> Shortage | None:
    """Sets aside in every counter, or in none and tells the first that has not enough."""
    for claim in claims:
        counter = counters[claim.counter]
        counter.release_dead(now)
        if (shortage := counter.lacks(claim, asked)) is not None:
            return shortage
    for claim in claims:
        counters[claim.counter].hold(call_id, now + lease_s, asked)
    return None


def settle(counters: Mapping[str, Counter], call_id: str, claims: Sequence[Claim], used: Amounts) -> None:
    """Counts what a call used, in place of what it had set aside."""
    for claim in claims:
        counter = counters[claim.counter]
        lease = counter.leases.pop(call_id, None)
        if lease is not None:
            counter.held = _minus(counter.held, lease[1])
        counter.spent = _plus(counter.spent, used)


def _plus(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _minus(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(one[0] - other[0], one[1] - other[1], one[2] - other[2])
