"""Breaker, rests, ejection, limits and balance together, whatever happens in whatever order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pagi_gateway.domain.balancing import LiveRoute
from pagi_gateway.domain.breaker import Breaker
from pagi_gateway.domain.errors import (
    ProviderAccessError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
    WrongShapeError,
)
from pagi_gateway.domain.live_target import LiveTarget, Passage
from pagi_gateway.domain.model import Circuit
from pagi_gateway.domain.rate_limits import Left, RateReport
from pagi_gateway.domain.routes import (
    Balance,
    BreakerRules,
    Choice,
    EjectionRules,
    Habits,
    RateLimits,
    Route,
    Target,
)
from pagi_gateway.domain.verdicts import AVOIDED_S, verdict_of
from pagi_gateway.testing import RecordingProvider

LONGEST_REST_S = 80.0
BREAKER = BreakerRules(failures=3, rest_s=10, longest_rest_s=LONGEST_REST_S)
EJECTION = EjectionRules(window_s=60, at_least=4, error_share=0.3, at_most=0.5, rest_s=30)
ERRORS = [
    ProviderDownError("x"),
    ProviderDownError("x", retry_after_s=5),
    ProviderTimeoutError("x"),
    ProviderBusyError("x"),
    ProviderBusyError("x", retry_after_s=20),
    ProviderAccessError("x"),
    ProviderRejectedError("x"),
    WrongShapeError("x"),
]


@dataclass
class Call:
    target: LiveTarget
    passage: Passage


class Routing(RuleBasedStateMachine):
    """Requests begin, end in every way, and time passes."""

    @initialize(
        balance=st.sampled_from(Balance),
        orders=st.lists(st.integers(1, 2), min_size=1, max_size=4),
        concurrent=st.integers(0, 2),
        per_minute=st.sampled_from([0, 30]),
    )
    def begin(self, balance: Balance, orders: list[int], concurrent: int, per_minute: int) -> None:
        self.now = 1000.0
        self.calls: list[Call] = []
        self.chance = 0.5
        self.down_in_a_row: dict[str, int] = {}
        limits = RateLimits(requests_per_minute=per_minute, concurrent=concurrent)
        self.concurrent = concurrent
        names = [f"t{number}" for number in range(len(orders))]
        targets = {name: Target(name, "p", "m", limits=limits) for name in names}
        lives = {
            name: LiveTarget(target, RecordingProvider(), BREAKER, EJECTION.window_s, self.now)
            for name, target in targets.items()
        }
        choices = sorted(
            (Choice(name, order) for name, order in zip(names, orders, strict=True)), key=lambda c: c.order
        )
        route = Route("alias", tuple(choices), Habits(balance=balance))
        self.route = LiveRoute(route, lives, EJECTION, lambda: self.chance)

    @rule(chance=st.floats(0, 0.999), but=st.sets(st.integers(0, 3)), key=st.sampled_from(["", "k"]))
    def ask(self, chance: float, but: set[int], key: str) -> None:
        self.chance = chance
        out = [live for number, live in enumerate(self.route.members) if number in but]
        free = [
            (choice.order, live)
            for choice, live in zip(self.route.choices, self.route.members, strict=True)
            if live not in out and live.wait_s(self.now, 0.0) == 0.0
        ]
        chosen = self.route.choose(self.now, but=out, key=key)
        if chosen is None:
            assert not free
            assert self.route.shortest_wait_s(self.now, 0.0, but=out) > 0
            return
        assert chosen in [live for _, live in free]
        willing = [
            (order, live)
            for order, live in free
            if not live.is_avoided(self.now) and not self.route.is_ejected(live, self.now)
        ]
        best = min(order for order, _ in (willing or free))
        assert (best, chosen) in (willing or free)
        self.calls.append(Call(chosen, chosen.enter(self.now, 0.0)))

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 99))
    def answer(self, which: int) -> None:
        call = self.calls.pop(which % len(self.calls))
        call.target.answered(self.now, call.passage, 10.0)
        if call.passage.probe:
            assert call.target.breaker.circuit(self.now) is Circuit.CLOSED

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 99), error=st.sampled_from(ERRORS), in_time=st.booleans())
    def fail(self, which: int, error: Exception, in_time: bool) -> None:
        call = self.calls.pop(which % len(self.calls))
        verdict = verdict_of(error, in_time=in_time)
        call.target.failed(self.now, call.passage, verdict)
        if verdict.rest_s:
            # But for the last bit of a float.
            assert call.target.wait_s(self.now, 0.0) >= verdict.rest_s - 1e-6
        if call.passage.probe and verdict.counts:
            assert call.target.breaker.circuit(self.now) is Circuit.OPEN
        if verdict.counts:
            self.route.judge(call.target, self.now)

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 99))
    def leave(self, which: int) -> None:
        call = self.calls.pop(which % len(self.calls))
        call.target.left(call.passage)

    @rule(seconds=st.floats(0.001, 50))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        which=st.integers(0, 3), left=st.integers(0, 5), reset_s=st.floats(0.01, 60), limit=st.sampled_from([None, 9])
    )
    def learn(self, which: int, left: int, reset_s: float, limit: int | None) -> None:
        live = self.route.members[which % len(self.route.members)]
        live.learn(self.now, RateReport(requests=Left(left, reset_s, limit)))

    @rule()
    def everything_mends_in_time(self) -> None:
        """Whatever happened: when all calls have ended and enough time has passed, everybody can be asked again."""
        for call in self.calls:
            call.target.left(call.passage)
        self.calls = []
        self.now += LONGEST_REST_S + AVOIDED_S + EJECTION.rest_s + 60
        for live in self.route.members:
            assert live.wait_s(self.now, 0.0) == 0.0
            assert not live.is_avoided(self.now)
            assert not self.route.is_ejected(live, self.now)

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "route"):
            return
        ejected = 0
        for live in self.route.members:
            mine = [call for call in self.calls if call.target is live]
            assert live.in_flight == len(mine)
            assert not self.concurrent or live.in_flight <= self.concurrent
            assert sum(call.passage.probe for call in mine) <= 1, "one probe at a time"
            assert 0.0 <= live.wait_s(self.now, 0.0) < math.inf
            total, failed = live.window.counts(self.now)
            assert 0 <= failed <= total
            ejected += self.route.is_ejected(live, self.now)
        assert ejected <= EJECTION.at_most * len(self.route.members)


class BreakerAlone(RuleBasedStateMachine):
    """Against what it shall be, written down the plain way: the history of what happened to it."""

    @initialize(failures=st.integers(1, 4))
    def begin(self, failures: int) -> None:
        self.rules = BreakerRules(failures=failures, rest_s=10, longest_rest_s=40)
        self.breaker = Breaker(self.rules)
        self.now = 0.0
        self.in_a_row = 0
        self.open_until: float | None = None
        self.rest_s = 10.0
        self.probe = False
        self.old = 0

    @rule()
    def enter(self) -> None:
        may = self.open_until is None or (self.now >= self.open_until and not self.probe)
        assert (self.breaker.wait_s(self.now) == 0.0) == may
        if may:
            is_probe = self.breaker.enter()
            assert is_probe == (self.open_until is not None)
            self.probe = self.probe or is_probe
            self.old += not is_probe

    @precondition(lambda self: self.old)
    @rule(well=st.sampled_from([True, False, None]))
    def end(self, well: bool | None) -> None:
        self.old -= 1
        if well is None:
            self.breaker.left(probe=False)
        elif well:
            self.breaker.succeeded(probe=False)
            self.in_a_row = self.in_a_row if self.open_until is not None else 0
        else:
            self.breaker.failed(self.now, probe=False)
            if self.open_until is None:
                self.in_a_row += 1
                if self.in_a_row >= self.rules.failures:
                    self.open_until = self.now + self.rest_s

    @precondition(lambda self: self.probe)
    @rule(well=st.sampled_from([True, False, None]))
    def end_probe(self, well: bool | None) -> None:
        self.probe = False
        if well is None:
            self.breaker.left(probe=True)
        elif well:
            self.breaker.succeeded(probe=True)
            self.open_until, self.in_a_row, self.rest_s = None, 0, 10.0
        else:
            self.breaker.failed(self.now, probe=True)
            self.rest_s = min(self.rest_s * 2, 40)
            self.open_until = self.now + self.rest_s

    @rule(seconds=st.sampled_from([0.5, 9.9, 10.0, 20.0, 41.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def it_says_how_it_is(self) -> None:
        if hasattr(self, "breaker"):
            closed, open_ = self.open_until is None, self.open_until is not None and self.now < self.open_until
            expected = Circuit.CLOSED if closed else Circuit.OPEN if open_ else Circuit.HALF_OPEN
            assert self.breaker.circuit(self.now) is expected


CHECKS = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
TestRouting = Routing.TestCase
TestRouting.settings = CHECKS
TestBreaker = BreakerAlone.TestCase
TestBreaker.settings = CHECKS
