"""One target and how it is with it: its breaker, its limits, who is waiting for it, what went wrong last."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pagi_gateway.domain.breaker import Breaker
from pagi_gateway.domain.error_window import ErrorWindow
from pagi_gateway.domain.model import TargetState
from pagi_gateway.domain.rate_limits import TargetLimits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Attempt
    from pagi_gateway.domain.ports import ModelSource
    from pagi_gateway.domain.rate_limits import RateReport
    from pagi_gateway.domain.routes import BreakerRules, Choice, Target
    from pagi_gateway.domain.verdicts import Verdict

# A provider that limits the rate and does not say how long: doubled each time, up to the longest.
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 60.0
# Nobody knows when a slot of `concurrent` becomes free; whoever waits for it is woken.
FULL_WAIT_S = 0.05


class Passage:
    """One call of a target, from its beginning to its end."""

    __slots__ = ("probe", "tokens")

    def __init__(self, tokens: float, *, probe: bool) -> None:
        self.tokens = tokens
        self.probe = probe


class Expected:
    """A context in which a request is on its way that any of these targets may be asked for.

    Not a generator: it is entered for every request.
    """

    __slots__ = ("_targets",)

    def __init__(self, targets: Sequence[LiveTarget]) -> None:
        self._targets = targets

    def __enter__(self) -> None:
        for target in self._targets:
            target.expected += 1

    def __exit__(self, *_: object) -> None:
        for target in self._targets:
            target.expected -= 1


class LiveTarget:
    """A target that is asked. Times are seconds on a clock that only goes up.

    Args:
        target: What it is.
        source: Who answers.
        breaker: When it is left alone.
        window_s: How far back its errors count.
        now: The time.
        before: The same target on the board before, whose requests may still be on their way.
    """

    __slots__ = (
        "_avoid_until", "_before", "_busy_in_a_row", "_concurrent", "_rest_until", "breaker", "expected", "in_flight",
        "last_error", "limits", "model", "name", "provider", "source", "target", "total_s", "unguarded", "waiting",
        "window",
    )  # fmt: skip

    def __init__(
        self,
        target: Target,
        source: ModelSource,
        breaker: BreakerRules,
        window_s: float,
        now: float,
        before: LiveTarget | None = None,
    ) -> None:
        self.target = target
        self.source = source
        self.name = target.name
        self.provider = target.provider
        self.model = target.model
        self.total_s = target.timeouts.total_s
        self.unguarded = target.unguarded
        self.in_flight = 0
        # How many requests are on their way that may still ask it, or do.
        self.expected = 0
        self._before = before if before is not None and before.awaited else None
        self.breaker = Breaker(breaker)
        self.limits = TargetLimits(target.limits, now)
        self.window = ErrorWindow(window_s)
        self.last_error: Attempt | None = None
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._concurrent = target.limits.concurrent
        self._rest_until = 0.0
        self._avoid_until = 0.0
        self._busy_in_a_row = 0

    def wait_s(self, now: float, tokens: float) -> float:
        """How long until it may be asked; 0 where it may now."""
        if self.unguarded:
            return 0.0
        wait = self._rest_until - now if self._rest_until > now else 0.0
        wait = max(wait, self.breaker.wait_s(now), self.limits.wait_s(now, tokens))
        return max(wait, FULL_WAIT_S) if self.is_full else wait

    @property
    def awaited(self) -> int:
        """How many requests are on their way that may still ask its source, also those of boards before."""
        if self._before is not None and not self._before.awaited:
            self._before = None
        return self.expected + (self._before.awaited if self._before is not None else 0)

    @property
    def is_full(self) -> bool:
        """Whether as many calls are under way as it may have."""
        return 0 < self._concurrent <= self.in_flight

    def is_limited(self, now: float) -> bool:
        """Whether what keeps it from being asked is a limit, and not that it is broken."""
        return self.breaker.wait_s(now) == 0.0

    def is_avoided(self, now: float) -> bool:
        """Whether others are asked first."""
        return now < self._avoid_until

    def enter(self, now: float, tokens: float) -> Passage:
        """A call begins, which `wait_s` allowed."""
        self.in_flight += 1
        if self.limits.limited:
            self.limits.take(now, tokens)
        return Passage(tokens, probe=self.breaker.enter())

    def answered(self, now: float, passage: Passage, used_tokens: float | None) -> None:
        """The call was answered."""
        self._ended()
        self._busy_in_a_row = 0
        self._avoid_until = 0.0
        self.breaker.succeeded(probe=passage.probe)
        self.window.add(now, failed=False)
        if used_tokens is not None and self.limits.limited:
            self.limits.correct(now, passage.tokens, used_tokens)

    def failed(self, now: float, passage: Passage, verdict: Verdict) -> None:
        """The call failed."""
        self._ended()
        if self.unguarded:
            return
        if verdict.counts:
            self.breaker.failed(now, probe=passage.probe)
        elif verdict.sent and verdict.fault is not None:
            # It is busy, or answers what is of no use: it is there all the same.
            self.breaker.succeeded(probe=passage.probe)
        else:
            self.breaker.left(probe=passage.probe)
        if verdict.sent:
            self.window.add(now, failed=verdict.counts)
        rest_s = verdict.rest_s
        if verdict.busy:
            self._busy_in_a_row += 1
            if rest_s is None:
                rest_s = min(_FIRST_REST_S * 2 ** min(self._busy_in_a_row - 1, 10), _LONGEST_REST_S)
        if rest_s is not None:
            self._rest_until = max(self._rest_until, now + rest_s)
        if verdict.avoid_s:
            self._avoid_until = now + verdict.avoid_s

    def left(self, passage: Passage) -> None:
        """The call was given up by whoever made it."""
        self._ended()
        self.breaker.left(probe=passage.probe)

    def wake(self) -> None:
        """Tells who has waited longest that there is room."""
        while self.waiting:
            if not (first := self.waiting.popleft()).done():
                first.set_result(None)
                return

    def learn(self, now: float, report: RateReport) -> None:
        """The provider said what is left of its limits."""
        self.limits.learn(now, report)

    def _ended(self) -> None:
        self.in_flight -= 1
        if self.waiting:
            self.wake()

    def state(self, now: float, choice: Choice, *, ejected: bool, capabilities: Capabilities) -> TargetState:
        """How it is with it, to be shown."""
        return TargetState(
            name=self.name,
            provider=self.provider,
            model=self.model,
            order=choice.order,
            weight=choice.weight,
            circuit=self.breaker.circuit(now),
            ejected=ejected,
            resting_s=self.wait_s(now, 0.0),
            in_flight=self.in_flight,
            last_error=self.last_error,
            capabilities=capabilities,
        )
