"""Who of several is asked: the first order that can answer, and in it by weight or by who is least busy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING
from zlib import crc32

from pagi_gateway.domain.routes import Balance

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pagi_gateway.domain.live_target import LiveTarget
    from pagi_gateway.domain.routes import Choice, EjectionRules, Route

    Weighted = tuple[LiveTarget, float]

# A number from 0 up to 1, without 1.
Random = Callable[[], float]


class LiveRoute:
    """An alias and its targets.

    Args:
        route: What it is.
        targets: Of its choices, by name.
        ejection: When a target is left alone because the others do better.
        random: Chance.
    """

    __slots__ = ("_ejected", "_ejection", "_orders", "_random", "choices", "members", "route")

    def __init__(
        self, route: Route, targets: Mapping[str, LiveTarget], ejection: EjectionRules, random: Random
    ) -> None:
        self.route = route
        self.choices: Sequence[Choice] = route.choices
        self.members: tuple[LiveTarget, ...] = tuple(targets[choice.target] for choice in route.choices)
        self._orders: tuple[tuple[Weighted, ...], ...] = tuple(
            tuple((targets[choice.target], choice.weight) for choice in group)
            for _, group in groupby(route.choices, key=lambda choice: choice.order)
        )
        self._ejection = ejection
        self._random = random
        self._ejected: dict[LiveTarget, float] = {}

    def choose(
        self, now: float, tokens: float = 0.0, *, but: Collection[LiveTarget] = (), key: str = ""
    ) -> LiveTarget | None:
        """Who is asked; None where nobody can be now.

        Args:
            now: The time.
            tokens: How many the request is thought to need.
            but: Who is not asked again.
            key: Requests with the same one go to the same target, where its cache is, as long as it can be asked.
        """
        reserve: list[list[Weighted]] = []
        for order in self._orders:
            free = [each for each in order if each[0] not in but and each[0].wait_s(now, tokens) == 0.0]
            if preferred := [each for each in free if not self._stands_back(each[0], now)]:
                return self._one_of(preferred, key)
            if free:
                reserve.append(free)
        # Who is ejected or has a dead key is better than nobody.
        return self._one_of(reserve[0], key) if reserve else None

    def shortest_wait_s(self, now: float, tokens: float, *, but: Collection[LiveTarget] = ()) -> float:
        """How long until somebody can be asked; infinite where nobody ever can."""
        return min((each.wait_s(now, tokens) for each in self.members if each not in but), default=math.inf)

    def is_ejected(self, target: LiveTarget, now: float) -> bool:
        """Whether it is left alone because the others do better."""
        return bool(self._ejected) and now < self._ejected.get(target, 0.0)

    def judge(self, target: LiveTarget, now: float) -> bool:
        """Looks at a target that has just failed; returns whether it is ejected now.

        Source: the success-rate ejection of Envoy's outlier detection, with shares in place of deviations.
        """
        rules = self._ejection
        total, failed = target.window.counts(now)
        if total < rules.at_least or failed < rules.error_share * total or self.is_ejected(target, now):
            return False
        others = [each.window.counts(now) for each in self.members if each is not target]
        others_total, others_failed = sum(each[0] for each in others), sum(each[1] for each in others)
        if not others_total or others_failed * 2 > rules.error_share * others_total:
            return False
        self._ejected = {each: until for each, until in self._ejected.items() if now < until}
        if len(self._ejected) + 1 > rules.at_most * len(self.members):
            return False
        self._ejected[target] = now + rules.rest_s
        # It comes back with a clean record.
        target.window.clear()
        return True

    def _stands_back(self, target: LiveTarget, now: float) -> bool:
        return target.is_avoided(now) or self.is_ejected(target, now)

    def _one_of(self, free: Sequence[Weighted], key: str) -> LiveTarget:
        if len(free) == 1:
            return free[0][0]
        if self.route.habits.balance is Balance.LEAST_BUSY:
            return self._least_busy(free)
        if key:
            return max(free, key=lambda each: _pull(key, *each))[0]
        return self._by_weight(free)

    def _by_weight(self, free: Sequence[Weighted]) -> LiveTarget:
        left = self._random() * math.fsum(weight for _, weight in free)
        for target, weight in free:
            left -= weight
            if left < 0:
                return target
        return free[-1][0]

    def _least_busy(self, free: Sequence[Weighted]) -> LiveTarget:
        """A target of weight 2 is as busy with two calls as one of weight 1 with one."""
        load = [(target.in_flight + 1) / weight for target, weight in free]
        least = min(load)
        return self._by_weight([each for each, busy in zip(free, load, strict=True) if busy == least])


def _pull(key: str, target: LiveTarget, weight: float) -> float:
    """Weighted rendezvous hashing: the target that draws a key most keeps it whoever else comes or goes."""
    chance = (crc32(f"{target.name}\n{key}".encode()) + 0.5) / 2**32
    return -weight / math.log(chance)
