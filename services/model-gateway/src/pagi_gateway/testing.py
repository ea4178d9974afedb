"""Fakes of the gateway's ports, for its tests and for those who build on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pagi_gateway.domain.effects import KnownAnswer
from pagi_gateway.domain.errors import ModelNotFoundError, ProviderTimeoutError
from pagi_gateway.domain.model import Message, ModelInfo, Plan, PlanRequest, Role, TextDelta, ToolSpec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pagi_gateway.domain.effects import EffectName


@dataclass
class RecordingProvider:
    """Answers with what it was given, and keeps what it was asked.

    Attributes:
        answers: Played in order, the last one again and again; an error is raised.
        pieces: Characters in one delta.
        gate: Where set, an answer waits for it, after the first delta of a stream.
        requests: What was asked.
        timeouts_s: How much time each request had.
        left_early: How many answers were cancelled or closed before their end.
    """

    answers: Sequence[Plan | Exception] = (Plan(text="all is well"),)
    name: str = "recording"
    default_model: str = "model-a"
    served: tuple[str, ...] = ("model-a", "model-b")
    pieces: int = 4
    gate: asyncio.Event | None = None
    requests: list[PlanRequest] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    left_early: int = 0

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers at once, or when the gate opens."""
        plan = self._next(request, timeout_s)
        try:
            await self._pass(timeout_s)
        except asyncio.CancelledError:
            self.left_early += 1
            raise
        return plan

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | Plan, None]:
        """Answers in pieces."""
        plan = self._next(request, timeout_s)
        whole = False
        try:
            for start in range(0, len(plan.text), self.pieces):
                yield TextDelta(plan.text[start : start + self.pieces])
                await self._pass(timeout_s)
            whole = True
            yield plan
        finally:
            self.left_early += not whole

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The served models."""
        return [ModelInfo(name, self.name, is_default=name == self.default_model) for name in self.served]

    def _next(self, request: PlanRequest, timeout_s: float) -> Plan:
        self.requests.append(request)
        self.timeouts_s.append(timeout_s)
        if request.model not in self.served:
            raise ModelNotFoundError(f"{self.name} has no model {request.model!r}")
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return replace(answer, model=request.model, provider=self.name)

    async def _pass(self, timeout_s: float) -> None:
        if self.gate is None:
            return
        try:
            await asyncio.wait_for(self.gate.wait(), timeout_s)
        except TimeoutError as error:
            raise ProviderTimeoutError("the gate did not open in time") from error


@dataclass
class InMemoryAnswerLedger:
    """Remembers everything until the process ends."""

    answers: dict[EffectName, KnownAnswer] = field(default_factory=dict)

    async def find(self, name: EffectName) -> KnownAnswer | None:
        """What was kept."""
        return self.answers.get(name)

    def keep(self, name: EffectName, fingerprint: str, plan: Plan) -> None:
        """Keeps it."""
        self.answers[name] = KnownAnswer(fingerprint, plan)


@dataclass
class RecordingFigures:
    """Counts what the gateway's parts tell."""

    effects: list[str] = field(default_factory=list)

    def effect(self, outcome: str) -> None:
        """Of a call with an effect id."""
        self.effects.append(outcome)


def asking(
    text: str,
    *,
    tools: Sequence[str] = (),
    system: str = "",
    earlier: Sequence[str] = (),
    then: Sequence[Message] = (),
    model: str = "mock",
) -> PlanRequest:
    """A request as a planner makes it.

    Args:
        text: The last user message.
        tools: Names of the tools that may be called.
        system: The system message.
        earlier: User messages of earlier turns; each was answered "ok".
        then: What follows the last user message: calls and results.
        model: The model asked.
    """
    history = [message for said in earlier for message in (Message(Role.USER, said), Message(Role.ASSISTANT, "ok"))]
    start = [Message(Role.SYSTEM, system)] if system else []
    return PlanRequest(
        messages=(*start, *history, Message(Role.USER, text), *then),
        tools=tuple(ToolSpec(name, f"does {name}", '{"type": "object"}') for name in tools),
        model=model,
    )
