"""Asks one target after another until one answers, within the caller's time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from pagi_chassis.errors import PagiError

from pagi_gateway.domain.errors import ProviderFaultError, outcome_of
from pagi_gateway.domain.live_target import Expected
from pagi_gateway.domain.model import Attempt, Plan
from pagi_gateway.domain.model_price import PricedModel
from pagi_gateway.domain.received import plan_of
from pagi_gateway.domain.routes import Fault
from pagi_gateway.domain.trip import Trip
from pagi_gateway.domain.verdicts import verdict_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pagi_gateway.domain.balancing import Random
    from pagi_gateway.domain.board import Board
    from pagi_gateway.domain.live_target import LiveTarget, Passage
    from pagi_gateway.domain.model import Delta, ModelInfo, PlanRequest, Usage
    from pagi_gateway.domain.ports import Clock, RoutingWatch
    from pagi_gateway.domain.prices import Prices
    from pagi_gateway.domain.routes import Target
    from pagi_gateway.domain.verdicts import Verdict

# What rounding may leave of a wait would make a loop of it.
_SHORTEST_PAUSE_S = 0.001
# What is told to others than the caller of a failure whose message may quote what was asked or answered.
_UNQUOTED = {
    None: "it refused a request",
    Fault.WRONG_SHAPE: "it gave an answer that is none, or not of the form that was asked for",
}


class Router:
    """Answers as one of the targets does that the request's model leads to.

    Args:
        board: Whom every name leads to; `use` puts another in its place, and requests that are on their way stay
            with theirs.
        clock: Time.
        random: Chance.
        watch: Is told of every attempt.
        prices: What models cost, for the list of models.
    """

    def __init__(
        self, board: Board, *, clock: Clock, random: Random, watch: RoutingWatch, prices: Prices | None = None
    ) -> None:
        self.board = board
        self._clock = clock
        self._random = random
        self._watch = watch
        self._prices = prices

    @property
    def name(self) -> str:
        """Of the one provider, where there is one."""
        return "router"

    @property
    def default_model(self) -> str:
        """What is asked where a request names none."""
        return self.board.routes.default

    def use(self, board: Board) -> None:
        """From now on requests go this way."""
        before, self.board = self.board, board
        for name, live in before.targets.items():
            if board.targets.get(name) is not live:
                self._watch.forgotten(name)

    def reach(self, model: str) -> Sequence[PricedModel]:
        """Whose prices hold where this model is asked: those of all who may answer.

        Raises:
            ModelNotFoundError: The name leads nowhere.
        """
        route = self.board.route_of(model)
        if route is self.board.anything:
            (target,) = route.members
            return [_priced(target.target, model or target.model)]
        return [_priced(target.target, target.model) for target in route.members]

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers, by as many calls as it takes and as are allowed.

        Raises:
            ModelNotFoundError: The name leads nowhere.
            PagiError: What the only target met, or what all of them did; with every attempt.
        """
        trip = self._trip(request, timeout_s)
        with Expected(trip.route.members):
            while (target := await self._next(trip)) is not None:
                call = _Call(self, trip, target)
                try:
                    plan = await target.source.plan(call.request, timeout_s=call.timeout_s)
                except PagiError as error:
                    if not call.failed(error):
                        if trip.fallback is not None:
                            break
                        raise trip.ended(error, self._clock.now()) from error
                except BaseException:
                    call.left()
                    raise
                else:
                    if not call.answered(plan):
                        return replace(plan, attempts=trip.attempts)
            assert trip.fallback is not None
            return replace(trip.fallback, attempts=trip.attempts)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas of one target; raises as `plan` does, and after the first delta what that target met."""
        trip = self._trip(request, timeout_s)
        with Expected(trip.route.members):
            while True:
                target = await self._next(trip)
                assert target is not None
                call = _Call(self, trip, target)
                received: list[Delta] = []
                try:
                    async with aclosing(target.source.stream(call.request, timeout_s=call.timeout_s)) as events:
                        async for event in events:
                            if isinstance(event, Plan):
                                call.answered(event, last=True)
                                event = replace(event, attempts=trip.attempts)
                            else:
                                received.append(event)
                            yield event
                    return
                except PagiError as error:
                    if call.ended:
                        # The answer was given: what a connection does after it takes nothing from it.
                        return
                    if received:
                        raise call.broke(error, received) from error
                    if not call.failed(error):
                        raise trip.ended(error, self._clock.now()) from error
                finally:
                    # Its caller, or the caller's caller, may have left: at any place above.
                    call.left()

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """Lists the aliases and models that can be asked for, with the state of their targets."""
        known = await self._with_prices(self.board.infos(self._clock.now()))
        if self.board.anything is None:
            return known
        states = {info.name: info.targets for info in known}
        listed = await self.board.anything.members[0].source.models(timeout_s=timeout_s)
        return [replace(info, targets=states.get(info.name, ())) for info in listed]

    async def _with_prices(self, infos: Sequence[ModelInfo]) -> Sequence[ModelInfo]:
        if self._prices is None:
            return infos
        targets = self.board.routes.targets
        models = {name: _priced(target, target.model) for name, target in targets.items()}
        await self._prices.learn(list(models.values()))
        known = {name: price.listed() for name, model in models.items() if (price := self._prices.known(model))}

        def priced(info: ModelInfo) -> ModelInfo:
            states = tuple(replace(state, price=known.get(state.name)) for state in info.targets)
            return replace(info, targets=states, price=states[0].price)

        return [priced(info) for info in infos]

    def _trip(self, request: PlanRequest, timeout_s: float) -> Trip:
        """A request that sets out by the board of this moment, whichever is in force when it ends."""
        board = self.board
        route = board.route_of(request.model)
        # Where any model may be named, the request names it; else the target does.
        return Trip(request, route, self._clock.now() + timeout_s, any_model=route is board.anything)

    async def _next(self, trip: Trip) -> LiveTarget | None:
        """Who is asked next; None where nobody is and an answer was set aside.

        Raises:
            PagiError: Nobody can be asked in time.
        """
        while True:
            now = self._clock.now()
            if now >= trip.deadline:
                if trip.fallback is not None:
                    return None
                raise trip.late(now)
            target = trip.route.choose(now, trip.tokens, but=trip.out, key=trip.request.cache_key)
            if target is not None:
                return target
            if trip.fallback is not None:
                return None
            wait = trip.wait_s(now, self._random())
            if wait > min(trip.patience_s, trip.deadline - now):
                raise trip.nobody(now)
            await self._pause(trip, wait)
            trip.next_turn(self._clock.now() - now)

    async def _pause(self, trip: Trip, wait_s: float) -> None:
        """Waits; where a target is full, also for a call of it to end."""
        wait_s = max(wait_s, _SHORTEST_PAUSE_S)
        full = [target for target in trip.route.members if target.is_full]
        if not full:
            await self._clock.sleep(wait_s)
            return
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for target in full:
            target.waiting.append(room)
        try:
            await self._clock.wait(room, wait_s)
        except BaseException:
            if room.done():
                # The room that was made for this request is another's.
                full[0].wake()
            raise
        finally:
            room.cancel()
            for target in full:
                if room in target.waiting:
                    target.waiting.remove(room)


def _priced(target: Target, model: str) -> PricedModel:
    return PricedModel(target.provider, model, target.base_url, target.name)


def _for_everybody(attempt: Attempt, verdict: Verdict) -> Attempt:
    """An attempt as whoever asks for the state of its target may see it: messages quote prompts and answers."""
    told = _UNQUOTED.get(verdict.fault)
    return attempt if told is None else replace(attempt, message=told)


class _Call:
    """One call of a target: entered when it is made, and ended once, in one of four ways."""

    __slots__ = ("_began", "_passage", "_router", "_target", "_trip", "_wall", "ended", "request", "timeout_s")

    def __init__(self, router: Router, trip: Trip, target: LiveTarget) -> None:
        clock = router._clock
        self._router = router
        self._trip = trip
        self._target = target
        self._began = now = clock.now()
        self._wall = clock.wall()
        self._passage: Passage = target.enter(now, trip.tokens)
        self.ended = False
        asked = trip.request
        self.request = asked if trip.any_model or asked.model == target.model else replace(asked, model=target.model)
        left = trip.deadline - now
        self.timeout_s = left if target.total_s is None else min(left, target.total_s)

    def answered(self, plan: Plan, *, last: bool = False) -> bool:
        """Ends it with an answer; returns whether another target is to be asked nevertheless."""
        self.ended = True
        usage = plan.usage
        used = float(usage.input_tokens + usage.output_tokens) if usage.reported else None
        self._target.answered(self._router._clock.now(), self._passage, used)
        if self._passage.probe:
            self._tell_circuit()
        another = not last and self._trip.wants_another(plan)
        if another:
            self._note("WrongShape", "the arguments of a tool call are no JSON object", usage, next_one=True)
            self._trip.set_aside(self._target, plan)
        else:
            self._note("ok", "", usage, next_one=False)
        return another

    def failed(self, error: PagiError, *, final: bool = False) -> bool:
        """Ends it with a failure; returns whether another call may be made."""
        self.ended = True
        clock, target = self._router._clock, self._target
        now = clock.now()
        verdict = verdict_of(error, in_time=now < self._trip.deadline)
        target.failed(now, self._passage, verdict)
        usage = error.usage if isinstance(error, ProviderFaultError) else None
        if not verdict.sent:
            return self._trip.failed(target, error, verdict)
        attempt = self._attempt(outcome_of(error), error.message, usage)
        target.last_error = _for_everybody(attempt, verdict)
        self._trip.attempts = (*self._trip.attempts, attempt)
        next_one = self._trip.failed(target, error, verdict) and not final
        self._router._watch.attempted(self._trip.route.route.name, attempt, next_one=next_one)
        if verdict.counts:
            self._judge(now)
        return next_one

    def broke(self, error: PagiError, received: list[Delta]) -> PagiError:
        """Ends it in the middle of a stream; returns the error, with what was received."""
        self.failed(error, final=True)
        if isinstance(error, ProviderFaultError):
            error.received = plan_of(received, model=self.request.model, provider=self._target.provider)
            error.attempts = self._trip.attempts
        return error

    def left(self) -> None:
        """Ends it without a word on the target, where it has not ended yet."""
        if not self.ended:
            self.ended = True
            self._target.left(self._passage)

    def _judge(self, now: float) -> None:
        self._tell_circuit()
        for route in self._router.board.routes_with(self._target):
            if route.judge(self._target, now):
                self._router._watch.ejected(route.route.name, self._target.name)

    def _tell_circuit(self) -> None:
        target = self._target
        if self._router.board.targets.get(target.name) is not target:
            # Another file is in force, and knows nothing of this one.
            return
        self._router._watch.circuit(target.name, target.breaker.circuit(self._router._clock.now()))

    def _note(self, outcome: str, message: str, usage: Usage, *, next_one: bool) -> None:
        attempt = self._attempt(outcome, message, usage)
        self._trip.attempts = (*self._trip.attempts, attempt)
        if message:
            self._target.last_error = attempt
        self._router._watch.attempted(self._trip.route.route.name, attempt, next_one=next_one)

    def _attempt(self, outcome: str, message: str, usage: Usage | None) -> Attempt:
        latency_ms = (self._router._clock.now() - self._began) * 1000
        target = self._target
        return Attempt(
            target.name,
            target.provider,
            self.request.model,
            outcome,
            message,
            latency_ms,
            int(self._wall * 1000),
            usage,
        )
