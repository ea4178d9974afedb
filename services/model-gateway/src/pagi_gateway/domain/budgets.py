"""Budgets: what may be spent for whom in which time, and the counters in which it is counted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagi_gateway.domain.model import Caller

NANO = 1_000_000_000
# A label of a caller may be of any length; a counter's name is not.
_LONGEST_LABEL = 128


class Window(StrEnum):
    """For how long a budget lasts, by the calendar in UTC: a minute ends at :00, a day at midnight."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


class Per(StrEnum):
    """Who has a budget of their own."""

    ALL = "all"
    TENANT = "tenant"
    KEY = "key"
    RUN = "run"


class Amounts(NamedTuple):
    """What is spent. Money is counted in billionths of a US dollar, so that sums are exact."""

    usd_nano: int = 0
    tokens: int = 0
    requests: int = 0


# In the order of Amounts, as messages name them.
KINDS = ("usd", "tokens", "requests")


class Limits(NamedTuple):
    """The most of each; None for no limit."""

    usd_nano: int | None = None
    tokens: int | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget.

    Attributes:
        name: In messages and metrics.
        window: How long it lasts.
        limits: The most of each kind.
        per: Who has one of their own.
        only: Patterns (`*` is any text) of those who have it; empty for all.
        but_not: Patterns of those who have it not.
    """

    name: str
    window: Window
    limits: Limits
    per: Per = Per.ALL
    only: tuple[str, ...] = ()
    but_not: tuple[str, ...] = ()

    def counts(self, who: str) -> bool:
        """Whether it is one of theirs."""
        if self.only and not any(fnmatchcase(who, pattern) for pattern in self.only):
            return False
        return not any(fnmatchcase(who, pattern) for pattern in self.but_not)


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """All budgets, and how they are kept.

    Attributes:
        budgets: In the order in which they are told.
        output_tokens: The most that a call may write that names no limit itself, where a budget of money or tokens
            counts it. It is sent to the provider, so that no call can write more than was set aside for it.
        allow_unknown_price: Whether a model without a known price may be asked under a budget of money.
        allow_without_store: Whether models may be asked where the counters cannot be reached.
    """

    budgets: tuple[Budget, ...] = ()
    output_tokens: int = 8192
    allow_unknown_price: bool = False
    allow_without_store: bool = False


class Claim(NamedTuple):
    """One counter that a call is counted in.

    Attributes:
        counter: Its name: budget, time and whose it is.
        budget: The budget's name.
        limits: Of the budget.
        ends_at: When the time is over and another counter begins, in seconds since 1970.
    """

    counter: str
    budget: str
    limits: Limits
    ends_at: float


class Shortage(NamedTuple):
    """What is not left.

    Attributes:
        claim: Of which budget.
        kind: Of `KINDS`, by number.
        spent: What was spent, in that kind's unit.
        held: What calls under way may still spend.
    """

    claim: Claim
    kind: int
    spent: int
    held: int


@dataclass(slots=True)
class Claims:
    """Finds the counters of a call."""

    rules: BudgetRules
    _calendar: _Calendar = field(init=False)

    def __post_init__(self) -> None:
        self._calendar = _Calendar()

    def of(self, caller: Caller, now: float) -> tuple[Claim, ...]:
        """The counters of a call that begins now (seconds since 1970)."""
        return tuple(self._of(caller, now))

    def _of(self, caller: Caller, now: float) -> Iterator[Claim]:
        for budget in self.rules.budgets:
            who = _who(budget.per, caller)
            # A call that belongs to no run has none of a run's budgets; whoever has no tenant or key shares one.
            if budget.per is Per.RUN and not who:
                continue
            if (budget.only or budget.but_not) and not budget.counts(who):
                continue
            label, ends_at = self._calendar.at(budget.window, now)
            yield Claim(f"{budget.name}|{budget.per}|{label}|{_short(who)}", budget.name, budget.limits, ends_at)


def _who(per: Per, caller: Caller) -> str:
    if per is Per.TENANT:
        return caller.tenant
    if per is Per.KEY:
        return caller.key
    return caller.run_id if per is Per.RUN else ""


def _short(label: str) -> str:
    if len(label) <= _LONGEST_LABEL:
        return label
    return hashlib.blake2b(label.encode(errors="replace"), digest_size=16).hexdigest()


class _Calendar:
    """The current minute, day and month: worked out when they begin, not for each call."""

    def __init__(self) -> None:
        self._current: dict[Window, tuple[float, float, str]] = {}

    def at(self, window: Window, now: float) -> tuple[str, float]:
        """The name of the window, and when it ends."""
        known = self._current.get(window)
        if known is None or not known[0] <= now < known[1]:
            self._current[window] = known = _window_at(window, now)
        return known[2], known[1]


def _window_at(window: Window, now: float) -> tuple[float, float, str]:
    moment = datetime.fromtimestamp(now, UTC)
    if window is Window.MINUTE:
        start = moment.replace(second=0, microsecond=0)
        end, label = start + timedelta(minutes=1), f"{start:%Y-%m-%dT%H:%M}"
    elif window is Window.DAY:
        start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        end, label = start + timedelta(days=1), f"{start:%Y-%m-%d}"
    else:
        start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end, label = (start + timedelta(days=32)).replace(day=1), f"{start:%Y-%m}"
    return start.timestamp(), end.timestamp(), label
