"""One request on its way from target to target: what was tried, what is left to try, and how it ends."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from pagi_chassis.errors import PagiError

from pagi_gateway.domain.errors import (
    ProviderBusyError,
    ProviderFaultError,
    ProviderTimeoutError,
    TargetsBusyError,
    TargetsDownError,
    UnsupportedError,
)
from pagi_gateway.domain.model import Attempt, Plan
from pagi_gateway.domain.routes import Fault

if TYPE_CHECKING:
    from pagi_gateway.domain.balancing import LiveRoute
    from pagi_gateway.domain.live_target import LiveTarget
    from pagi_gateway.domain.model import PlanRequest
    from pagi_gateway.domain.verdicts import Verdict

# Between two calls of one target; doubled each time.
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
# A guess: English has about four characters in a token.
_CHARACTERS_A_TOKEN = 4
# Told as the wait where nobody knows it.
_UNKNOWN_WAIT_S = 1.0


class Trip:
    """The state of one request.

    Args:
        request: What is asked.
        route: Whom it may be asked of.
        deadline: On the clock that only goes up.
        any_model: Whether the request names the model itself, not the target that is asked.
    """

    __slots__ = (
        "_errors", "_final", "_hopeless", "_turns", "any_model", "attempts", "deadline", "fallback", "out",
        "patience_s", "request", "route", "tokens",
    )  # fmt: skip

    def __init__(self, request: PlanRequest, route: LiveRoute, deadline: float, *, any_model: bool = False) -> None:
        self.request = request
        self.route = route
        self.deadline = deadline
        self.any_model = any_model
        self.tokens = tokens_of(request) if any(each.limits.limited for each in route.members) else 0.0
        self.patience_s = route.route.habits.longest_wait_s
        self.attempts: tuple[Attempt, ...] = ()
        # An answer of the wrong shape: better than none.
        self.fallback: Plan | None = None
        # Who is not asked: has been in this turn, or would only say the same again.
        self.out: tuple[LiveTarget, ...] = ()
        self._hopeless: tuple[LiveTarget, ...] = ()
        self._errors: tuple[tuple[LiveTarget, PagiError], ...] = ()
        self._turns = 0
        # The last error says best itself what is wrong: no target would do better.
        self._final = False

    def failed(self, target: LiveTarget, error: PagiError, verdict: Verdict) -> bool:
        """Takes a failure in; returns whether another call may be made."""
        self._errors = (*self._errors, (target, error))
        self.out = (*self.out, target)
        if verdict.hopeless:
            self._hopeless = (*self._hopeless, target)
        self._final = verdict.sent and verdict.fault not in self.route.route.habits.fail_over_on
        return not verdict.sent or self._may_go_on(verdict.fault, len(self.attempts))

    def wants_another(self, plan: Plan) -> bool:
        """Whether an answer, which is not among the attempts yet, is of the wrong shape, and another may be asked."""
        return (
            bool(plan.tool_calls)
            and len(self.route.members) > len(self.out) + 1
            and self._may_go_on(Fault.WRONG_SHAPE, len(self.attempts) + 1)
            and not all(_is_object(call.arguments_json) for call in plan.tool_calls)
        )

    def set_aside(self, target: LiveTarget, plan: Plan) -> None:
        """Keeps an answer of the wrong shape, in case that no better one comes."""
        self.out = (*self.out, target)
        self.fallback = plan

    def wait_s(self, now: float, chance: float) -> float:
        """How long until somebody can be asked (again); infinite where nobody can.

        Args:
            now: The time.
            chance: From 0 to 1, so that many requests do not come back at once.
        """
        wait = self.route.shortest_wait_s(now, self.tokens, but=self._hopeless)
        if len(self.out) > len(self._hopeless):
            wait = max(wait, min(_FIRST_PAUSE_S * 2**self._turns, _LONGEST_PAUSE_S) * (0.5 + chance))
        return wait

    def next_turn(self, waited_s: float) -> None:
        """Everybody may be asked again who might now say something else."""
        self.patience_s -= waited_s
        if len(self.out) > len(self._hopeless):
            self._turns += 1
            self.out = self._hopeless

    def ended(self, error: PagiError, now: float) -> PagiError:
        """What the caller is told when `error` was the last word."""
        several = len({target for target, _ in self._errors}) > 1
        return self._with_attempts(self._all_failed(now) if several and not self._final else error)

    def nobody(self, now: float) -> PagiError:
        """What the caller is told when nobody is left who can be asked."""
        if self._errors:
            return self.ended(self._errors[-1][1], now)
        wait = self._shortest_s(now)
        told = ", ".join(f"{target.name}: {_why(target, now)}" for target in self.route.members)
        message = f"nobody can be asked for {self.route.route.name!r} within the next {wait:.1f} s ({told})"
        limited = all(target.is_limited(now) for target in self.route.members)
        kind = TargetsBusyError if limited else TargetsDownError
        return self._with_attempts(kind(message, retry_after_s=wait))

    def late(self, now: float) -> PagiError:
        """What the caller is told when the time is over."""
        if self._errors and isinstance(self._errors[-1][1], ProviderTimeoutError):
            return self.ended(self._errors[-1][1], now)
        told = f"; before that: {self._told()}" if self._errors else ""
        return self._with_attempts(
            ProviderTimeoutError(f"no answer for {self.route.route.name!r} in the time that was left{told}")
        )

    def _may_go_on(self, fault: Fault | None, calls: int) -> bool:
        """Whether another call may be made after so many."""
        habits = self.route.route.habits
        return fault in habits.fail_over_on and calls < habits.attempts

    def _all_failed(self, now: float) -> PagiError:
        errors = [error for _, error in self._errors if not isinstance(error, UnsupportedError)]
        if not errors:
            return self._errors[0][1]
        message = f"no target of {self.route.route.name!r} answered: {self._told()}"
        if all(isinstance(error, ProviderBusyError) for error in errors):
            return TargetsBusyError(message, retry_after_s=self._shortest_s(now))
        if all(isinstance(error, ProviderTimeoutError) for error in errors):
            return ProviderTimeoutError(message)
        return TargetsDownError(message, retry_after_s=self._shortest_s(now))

    def _told(self) -> str:
        return "; ".join(f"{target.name}: {error.message}" for target, error in self._errors)

    def _shortest_s(self, now: float) -> float:
        wait = self.route.shortest_wait_s(now, self.tokens)
        return wait if 0 < wait < math.inf else _UNKNOWN_WAIT_S

    def _with_attempts(self, error: PagiError) -> PagiError:
        if isinstance(error, ProviderFaultError):
            error.attempts = self.attempts
        return error


def tokens_of(request: PlanRequest) -> float:
    """How many tokens a request is thought to need, its answer included as far as it says how long that may be."""
    characters = sum(len(message.text) for message in request.messages)
    characters += sum(len(part.text) for message in request.messages for part in message.parts)
    characters += sum(
        len(each.text) + len(each.signature) for message in request.messages for each in message.reasoning
    )
    characters += sum(len(tool.parameters_schema_json) + len(tool.description) for tool in request.tools)
    return characters / _CHARACTERS_A_TOKEN + request.max_output_tokens


def _why(target: LiveTarget, now: float) -> str:
    if target.is_full:
        return f"{target.in_flight} calls are under way, as many as it may have"
    wait = target.wait_s(now, 0.0)
    last = f" after: {target.last_error.message}" if target.last_error else ""
    return f"rests for {wait:.1f} s{last}" if wait else "its limits leave no room for this request now"


def _is_object(text: str) -> bool:
    """Whether arguments are a JSON object; none at all is an empty one."""
    if not text:
        return True
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
