"""An effect id is answered once: a repeat gets the first answer, and one that comes meanwhile joins the first."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pagi_chassis.errors import DeadlineExceededError

from pagi_gateway.domain.deltas import deltas_of
from pagi_gateway.domain.effects import EffectName, fingerprint_of
from pagi_gateway.domain.errors import InvalidPlanRequestError
from pagi_gateway.domain.joined_call import JoinedCall
from pagi_gateway.domain.model import Plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pagi_gateway.domain.model import Delta, ModelInfo, PlanRequest
    from pagi_gateway.domain.ports import Answerer, AnswerLedger, EffectFigures

MAX_LENGTH = 256


class OnceByEffect:
    """Answers as `inner` does, each effect of a tenant once. A request without an effect id goes straight through.

    Only answers are remembered: after an error, and after a call that all its callers left, the model is asked again.
    It has no effect but its bill.
    """

    def __init__(self, inner: Answerer, ledger: AnswerLedger, figures: EffectFigures) -> None:
        self._inner = inner
        self._ledger = ledger
        self._figures = figures
        self._running: dict[EffectName, JoinedCall] = {}

    async def plan(self, request: PlanRequest, *, timeout_s: float = math.inf) -> Plan:
        """Returns the answer, by asking for it, by waiting with another, or from memory.

        Raises:
            InvalidPlanRequestError: The effect id is too long, or belongs to another request.
            PagiError: Whatever `inner` met.
        """
        if not request.effect_id:
            return await self._inner.plan(request, timeout_s=timeout_s)
        effect = _effect(request, timeout_s, stream=False)
        while True:
            call = await self._call(effect)
            if isinstance(call, Plan):
                return call
            try:
                plan = await call.plan(effect.patience_s())
            except DeadlineExceededError:
                if not effect.may_begin_anew(call):
                    raise
            else:
                return replace(plan, replayed=True) if effect.joined else plan
            finally:
                await self._leave(effect.name, call)

    async def stream(self, request: PlanRequest, *, timeout_s: float = math.inf) -> AsyncGenerator[Delta | Plan, None]:
        """Yields the answer in deltas and at last whole; who joins a stream gets first what has come so far."""
        if not request.effect_id:
            async with aclosing(self._inner.stream(request, timeout_s=timeout_s)) as events:
                async for event in events:
                    yield event
            return
        effect = _effect(request, timeout_s, stream=True)
        while True:
            call = await self._call(effect)
            if isinstance(call, Plan):
                for delta in deltas_of(call):
                    yield delta
                yield call
                return
            try:
                async with aclosing(call.events(effect.patience_s())) as events:
                    async for event in events:
                        yield replace(event, replayed=True) if effect.joined and isinstance(event, Plan) else event
            except DeadlineExceededError:
                if not effect.may_begin_anew(call):
                    raise
            else:
                return
            finally:
                await self._leave(effect.name, call)

    async def models(self, *, timeout_s: float = math.inf) -> Sequence[ModelInfo]:
        """Lists who can be asked."""
        return await self._inner.models(timeout_s=timeout_s)

    async def _call(self, effect: _Effect) -> JoinedCall | Plan:
        """The call to wait for, in which the caller is counted; or the answer, where it is remembered."""
        name = effect.name
        if name not in self._running:
            known = await self._ledger.find(name)
            # Unless it was begun while we looked.
            if known is not None and name not in self._running:
                effect.check(known.fingerprint)
                self._figures.effect("replayed")
                return replace(known.plan, replayed=True)
        call = self._running.get(name)
        effect.joined = call is not None
        if call is None:
            call = self._begin(effect)
        else:
            effect.check(call.fingerprint)
        self._figures.effect("joined" if effect.joined else "asked")
        call.waiting += 1
        return call

    def _begin(self, effect: _Effect) -> JoinedCall:
        request, timeout_s, name = effect.request, effect.left_s(), effect.name
        call = JoinedCall(effect.fingerprint, partial(self._ledger.keep, name, effect.fingerprint))
        self._running[name] = call
        if effect.stream:
            call.ask_stream(self._inner.stream(request, timeout_s=timeout_s), partial(self._ended, name, call))
        else:
            call.ask(self._inner.plan(request, timeout_s=timeout_s), partial(self._ended, name, call))
        return call

    async def _leave(self, name: EffectName, call: JoinedCall) -> None:
        if call.waiting == 1:
            # First: nobody may join a call that is being cancelled.
            self._ended(name, call)
        await call.leave()

    def _ended(self, name: EffectName, call: JoinedCall) -> None:
        if self._running.get(name) is call:
            del self._running[name]


@dataclass(slots=True)
class _Effect:
    """What one caller wants, and until when (seconds of the event loop's clock)."""

    request: PlanRequest
    name: EffectName
    fingerprint: str
    stream: bool
    ends: float
    joined: bool = False

    def left_s(self) -> float:
        return max(0.0, self.ends - asyncio.get_running_loop().time())

    def patience_s(self) -> float | None:
        """How long to wait; who began a call has given it the time, and waits until it ends."""
        return self.left_s() if self.joined and self.ends < math.inf else None

    def may_begin_anew(self, call: JoinedCall) -> bool:
        """The time of who began it is over, not ours; and nothing has come of it that would be spliced."""
        return self.joined and not call.begun and self.left_s() > 0

    def check(self, known: str) -> None:
        if known != self.fingerprint:
            told = f"{self.name.effect_id!r} names another request already: not all that the model reads is the same"
            raise InvalidPlanRequestError(told, field="effect_id")


def _effect(request: PlanRequest, timeout_s: float, *, stream: bool) -> _Effect:
    if len(request.effect_id) > MAX_LENGTH:
        told = f"an effect id has at most {MAX_LENGTH} characters, not {len(request.effect_id)}"
        raise InvalidPlanRequestError(told, field="effect_id")
    name = EffectName(request.caller.tenant, request.effect_id)
    ends = asyncio.get_running_loop().time() + timeout_s
    return _Effect(request, name, fingerprint_of(request), stream, ends)
