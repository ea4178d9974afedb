"""Any provider that Pydantic AI has a model class for, used below its agent layer.

It costs several times the CPU of the lean roads and supports far more providers; only Bedrock comes by it now.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UnexpectedModelBehavior, UserError
from pydantic_ai.messages import (
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

from pagi_gateway.adapters.http_errors import error_for
from pagi_gateway.adapters.http_stream import Patience
from pagi_gateway.adapters.json_wire import encode, whole_characters
from pagi_gateway.adapters.model_capabilities import capabilities_of
from pagi_gateway.adapters.pydantic_ai_messages import (
    arguments_of,
    messages_of,
    parameters_of,
    plan_of,
    raw_reason,
    settings_of,
)
from pagi_gateway.domain.call_ids import fresh_ids
from pagi_gateway.domain.errors import ProviderAccessError, ProviderAnswerError, ProviderDownError, ProviderTimeoutError
from pagi_gateway.domain.model import ModelInfo, Plan, ReasoningDelta, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from pagi_chassis.errors import PagiError
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Delta, PlanRequest


class PydanticAiProvider:
    """Answers by a model class of the library.

    Args:
        endpoint: Names the provider, its default model and what is told where it fails.
        make: Makes the model of a name; called once for each.
        failure: Understands what the provider's own client raises through the library; None where it does not.
        patience: How long a stream may keep its listener waiting.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        make: Callable[[str], Model],
        *,
        failure: Callable[[Exception], PagiError | None],
        patience: Patience | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._failure = failure
        self._make = make
        self._patience = patience or Patience()
        self._models: dict[str, Model] = {}

    @property
    def name(self) -> str:
        """The endpoint's provider."""
        return self._endpoint.provider

    @property
    def default_model(self) -> str:
        """The endpoint's default."""
        return self._endpoint.default_model

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do, as far as its name tells."""
        return capabilities_of(self.name, model)

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Asks for the whole answer at once."""
        async with self._asking(request, timeout_s):
            model = self._model(request.model)
            response = await model.request(self._messages(request, model), settings_of(request), parameters_of(request))
            return self._plan(response, request, model)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Asks for a stream and sends its deltas on as the library makes them."""
        deltas = self._deltas(request)
        now = asyncio.get_running_loop().time
        ends, began = now() + timeout_s, False
        async with aclosing(deltas):
            while True:
                wait = self._patience.piece_s if began else self._patience.first_s
                async with self._asking(request, min(wait, ends - now())):
                    event = await anext(deltas)
                began = True
                yield event
                if isinstance(event, Plan):
                    return

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The default: the library has no list."""
        can = self.capabilities(self.default_model)
        return [ModelInfo(self.default_model, self.name, is_default=True, capabilities=can)]

    def _model(self, name: str) -> Model:
        if name not in self._models:
            # Bounded, because a caller may write any name.
            if len(self._models) >= 32:
                self._models.pop(next(iter(self._models)))
            self._models[name] = self._make(name)
        return self._models[name]

    async def _deltas(self, request: PlanRequest) -> AsyncGenerator[Delta | Plan, None]:
        model = self._model(request.model)
        opening = model.request_stream(self._messages(request, model), settings_of(request), parameters_of(request))
        numbers: dict[int, int] = {}
        async with opening as stream:
            async for event in stream:
                if (delta := _delta(event, numbers)) is not None:
                    yield delta
            response = stream.get()
            if not raw_reason(response):
                raise ProviderDownError(f"{self._endpoint.place} ended the stream before the answer was whole")
            yield self._plan(response, request, model)

    def _messages(self, request: PlanRequest, model: Model) -> list[ModelMessage]:
        return messages_of(request, self._endpoint, takes_thoughts=_takes_thoughts(model))

    def _plan(self, response: ModelResponse, request: PlanRequest, model: Model) -> Plan:
        ids = fresh_ids(request.messages)
        return plan_of(response, request, self._endpoint, ids, takes_thoughts=_takes_thoughts(model))

    @asynccontextmanager
    async def _asking(self, request: PlanRequest, timeout_s: float) -> AsyncIterator[None]:
        """Bounds the time and turns what the library raises into the domain's errors."""
        try:
            async with asyncio.timeout(None if timeout_s == math.inf else max(0.0, timeout_s)):
                with warnings.catch_warnings():
                    # What a model cannot do was told before; the library's own warning helps nobody here.
                    warnings.simplefilter("ignore")
                    yield
        except TimeoutError as error:
            raise ProviderTimeoutError(f"{self._endpoint.place} did not answer in time") from error
        except ModelHTTPError as error:
            body = encode({"error": {"message": _said(error)}})
            headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
            raise error_for(error.status_code, headers, body, self._endpoint, request.model) from error
        except ModelAPIError as error:
            # Who raised it first may know better what it was.
            cause = error.__cause__
            typed = self._failure(cause) if isinstance(cause, Exception) else None
            raise typed or ProviderDownError(f"{self._endpoint.place} failed: {error}") from error
        except UserError as error:
            raise ProviderAccessError(f"{self._endpoint.place} cannot be asked like this: {error}") from error
        except UnexpectedModelBehavior as error:
            raise ProviderAnswerError(f"{self._endpoint.place} answered what is no answer: {error}") from error
        except Exception as error:
            if (known := self._failure(error)) is None:
                raise
            raise known from error


def _takes_thoughts(model: Model) -> bool:
    """Whether the library sends the model's reasoning back to it: of Bedrock's models to Claude."""
    return bool(model.profile.get("bedrock_send_back_thinking_parts"))


def _said(error: ModelHTTPError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("Error") or body.get("error") or body
        if isinstance(inner, dict):
            return str(inner.get("Message") or inner.get("message") or inner)
    return str(body or error)


def _delta(event: ModelResponseStreamEvent, numbers: dict[int, int]) -> Delta | None:
    if isinstance(event, PartStartEvent):
        part = event.part
        if isinstance(part, ToolCallPart):
            number = numbers[event.index] = len(numbers)
            arguments = arguments_of(part) if part.args else ""
            return ToolCallDelta(
                number, whole_characters(part.tool_call_id), whole_characters(part.tool_name), arguments
            )
        if isinstance(part, TextPart):
            return TextDelta(whole_characters(part.content)) if part.content else None
        return (
            ReasoningDelta(whole_characters(part.content)) if isinstance(part, ThinkingPart) and part.content else None
        )
    if not isinstance(event, PartDeltaEvent):
        return None
    delta = event.delta
    if isinstance(delta, TextPartDelta):
        return TextDelta(whole_characters(delta.content_delta)) if delta.content_delta else None
    if isinstance(delta, ThinkingPartDelta):
        return ReasoningDelta(whole_characters(delta.content_delta)) if delta.content_delta else None
    if isinstance(delta, ToolCallPartDelta) and isinstance(delta.args_delta, str):
        number = numbers.setdefault(event.index, len(numbers))
        return ToolCallDelta(number, arguments_json=whole_characters(delta.args_delta))
    return None
