"""What the gateway needs from the world: somebody who answers a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.effects import EffectName, KnownAnswer
    from pagi_gateway.domain.model import Delta, ModelInfo, Plan, PlanRequest


class Answerer(Protocol):
    """Answers conversations.

    Every method raises the errors of `pagi_gateway.domain.errors` and, where time runs out,
    `pagi_chassis.errors.DeadlineExceededError`. Cancelling the caller's task stops the work upstream.
    """

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers the conversation."""

    def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas and ends with the whole plan, text included.

        Closing the generator stops the work upstream.
        """

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """Lists the models that can be asked."""


class Provider(Answerer, Protocol):
    """A source of answers. Routing, budgets and caches are providers that hold other providers.

    `request.model` is never empty here.
    """

    @property
    def name(self) -> str:
        """The provider's name, as `LLM_PROVIDER` spells it."""

    @property
    def default_model(self) -> str:
        """The model that is asked where a request names none."""


class ModelSource(Provider, Protocol):
    """A provider that answers itself, and so knows what its models can do."""

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do; never asks the provider."""


class AnswerLedger(Protocol):
    """Remembers answers for a time. It never fails: what cannot be read is not known."""

    async def find(self, name: EffectName) -> KnownAnswer | None:
        """What was kept, unless it has become too old or had to go."""

    def keep(self, name: EffectName, fingerprint: str, plan: Plan) -> None:
        """Keeps an answer: for `find` at once, durably a moment later."""


class EffectFigures(Protocol):
    """Counts what became of calls with an effect id."""

    def effect(self, outcome: str) -> None:
        """`asked`, `joined` or `replayed`."""
