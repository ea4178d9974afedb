"""The model behind the model gateway's gRPC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi_chassis.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from pagi_chassis.grpc_client import GrpcClient

from pagi_planner.convert import model_answer_from_proto, model_request_to_proto
from pagi_planner.domain.errors import ContextTooLongError, EffectConflictError, UnknownModelError
from pagi_planner.domain.model import ModelAnswer, ModelRequest
from pagi_planner.domain.ports import Words

# A stream that breaks is asked for again, first after this, then after twice as long, …
FIRST_PAUSE_S = 0.05
# … up to this.
LONGEST_PAUSE_S = 1.0
# A gateway that is away for so long, since the last word of it, is given up; who asked first may ask again.
PATIENCE_S = 2.0
# How providers say that a conversation does not fit into the window; the gateway hands on their words.
_TOO_LONG = re.compile(
    r"context[ _]length|context[ _]window|maximum context|(?:prompt|input) is too long|too many (?:input )?tokens"
    r"|(?:input|prompt|request|messages?)\b[^.]{0,80}\b(?:exceed(?:s|ed)?|longer than)\b[^.]{0,80}\b(?:tokens?|context)"
    r"|reduce the length|request_too_large",
    re.IGNORECASE,
)


class GatewayModel:
    """Asks the gateway.

    Args:
        client: Of the gateway.
        timeout_s: For one answer; less where the run has less.
        patience_s: How long a stream that broke is asked for again (seconds).
        long_patience_s: How long a patient request waits where it is the gateway that is away (seconds).
    """

    def __init__(
        self,
        client: GrpcClient,
        *,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
        long_patience_s: float = PATIENCE_S,
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._long_patience_s = long_patience_s
        self._stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """Asks for the next step.

        Raises:
            UnknownModelError: There is no such model.
            InvalidArgumentError: The provider refuses the conversation: it is too long, say.
            FailedPreconditionError: The gateway or its provider is set up wrongly.
            PagiError: The gateway cannot be reached, or its provider.
        """
        with _told(request):
            # A call whose connection breaks is asked again: nothing but the answer comes of it.
            answer = await self._client.call(
                self._stub.GetPlan,
                model_request_to_proto(request),
                timeout_s=self._timeout_s,
                repeatable=True,
                patience_s=self._long_patience_s if request.is_patient else None,
            )
        return model_answer_from_proto(answer)

    async def stream(self, request: ModelRequest, words: Words) -> ModelAnswer:
        """The same, heard word by word. A stream that breaks is asked for again under the same effect id.

        Raises:
            PagiError: As `answer`.
        """
        asked = gateway_pb2.StreamPlanRequest(plan=model_request_to_proto(request))
        loop = asyncio.get_running_loop()
        heard_at, pause_s = loop.time(), FIRST_PAUSE_S
        while True:
            try:
                with _told(request):
                    stream = self._client.stream(self._stub.StreamPlan, asked, timeout_s=self._timeout_s)
                    async with aclosing(stream) as events:
                        async for event in events:
                            kind = event.WhichOneof("event")
                            if kind == "text_delta":
                                words.add(event.text_delta)
                                heard_at, pause_s = loop.time(), FIRST_PAUSE_S
                            elif kind == "reasoning_delta":
                                words.think(event.reasoning_delta)
                                heard_at, pause_s = loop.time(), FIRST_PAUSE_S
                            elif kind == "response":
                                return model_answer_from_proto(event.response)
                raise InternalError("the gateway's stream ended without an answer")
            except UnavailableError as error:
                # A second is what is said where nobody has said anything.
                wait_s = max(pause_s, error.retry_after_s if error.retry_after_s > 1.0 else 0.0)
                is_waited_for = request.is_patient and error.is_away
                patience_s = self._long_patience_s if is_waited_for else self._patience_s
                if loop.time() + wait_s > heard_at + patience_s:
                    raise
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            words.begin_again()


@contextmanager
def _told(request: ModelRequest) -> Iterator[None]:
    """Tells failures of the gateway in the words of the request."""
    try:
        yield
    except NotFoundError as error:
        if request.model:
            raise UnknownModelError(error.message, field="model") from error
        raise FailedPreconditionError(f"the gateway's default model does not exist: {error.message}") from error
    except InvalidArgumentError as error:
        if error.field == "effect_id":
            raise EffectConflictError(f"the gateway refuses effect_id: {error.message}") from error
        if error.field:
            # A field of a message that was written here: nothing that the caller could mend.
            raise InternalError(f"the gateway refuses {error.field}: {error.message}") from error
        if _TOO_LONG.search(error.message):
            raise ContextTooLongError(error.message) from error
        raise
