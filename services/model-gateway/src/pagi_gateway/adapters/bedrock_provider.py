"""AWS Bedrock, by Pydantic AI and boto3: signatures, credentials and the binary stream are theirs, the wire is ours."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.adapters.http_road import HttpRoad
from pagi_gateway.domain.errors import ProviderAccessError, ProviderAnswerError, ProviderDownError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pagi_chassis.errors import PagiError
    from pydantic_ai.models import Model

    from pagi_gateway.adapters.http_stream import Patience
    from pagi_gateway.adapters.pydantic_ai_provider import PydanticAiProvider
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Delta, ModelInfo, Plan, PlanRequest


class BedrockProvider:
    """Answers by Bedrock's Converse API. A component: the library is imported when it starts.

    Args:
        region: Of AWS.
        default_model: Asked where a request names none.
        base_url: Where Bedrock is, for a private endpoint; empty: as the region says.
        patience: How long a stream may keep its listener waiting.
        connect_timeout_s: Longest time to connect.
    """

    def __init__(
        self,
        region: str,
        default_model: str,
        *,
        base_url: str = "",
        patience: Patience,
        connect_timeout_s: float = 5.0,
    ) -> None:
        self._region = region
        self._endpoint = Endpoint(
            provider="bedrock",
            base_url=base_url or f"https://bedrock-runtime.{region}.amazonaws.com",
            default_model=default_model,
            key_variable="AWS_ACCESS_KEY_ID (or the profile, or the role of the machine)",
            url_variable="AWS_REGION",
        )
        self._patience = patience
        self._road = HttpRoad(self._endpoint, connect_timeout_s=connect_timeout_s)
        self._library: PydanticAiProvider | None = None

    @property
    def name(self) -> str:
        """Of the provider."""
        return self._endpoint.provider

    @property
    def default_model(self) -> str:
        """The default."""
        return self._endpoint.default_model

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do, as far as its name tells."""
        from pagi_gateway.adapters.model_capabilities import capabilities_of

        return capabilities_of(self.name, model)

    async def start(self) -> None:
        """Imports the library and makes the client, which looks for credentials."""
        self._library = await asyncio.to_thread(self._made)
        await self._road.start()

    async def stop(self) -> None:
        """Closes every connection."""
        await self._road.stop()
        self._library = None

    async def check(self) -> None:
        """Connects to the endpoint and hangs up.

        Raises:
            ProviderDownError: Nobody listens there.
        """
        await self._road.check()

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Asks for the whole answer at once."""
        from pagi_gateway.adapters.bedrock_wire import wire_call

        library = self._started()
        async with wire_call(self._road, request.model, timeout_s=timeout_s, first_s=math.inf) as call:
            call.adopt()
            return await library.plan(request, timeout_s=timeout_s)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Asks for a stream."""
        from pagi_gateway.adapters.bedrock_wire import wire_call

        library, first_s = self._started(), self._patience.first_s
        async with (
            wire_call(self._road, request.model, timeout_s=timeout_s, first_s=first_s) as call,
            aclosing(library.stream(request, timeout_s=timeout_s)) as events,
        ):
            while True:
                # Again each time: whoever listens may have a call of their own between two events.
                call.adopt()
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                yield event

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The default model."""
        return await self._started().models(timeout_s=timeout_s)

    def _started(self) -> PydanticAiProvider:
        assert self._library is not None, "start() comes first"
        return self._library

    def _made(self) -> PydanticAiProvider:
        # Imported here: a second of CPU and 60 MB that only this provider costs.
        try:
            import boto3  # type: ignore[import-untyped]
            from botocore.config import Config  # type: ignore[import-untyped]
            from pydantic_ai.models.bedrock import BedrockConverseModel
            from pydantic_ai.providers import bedrock
        except ImportError as error:
            raise ProviderDownError(
                f"bedrock needs the extra packages of pagi-gateway[bedrock]: {error}", retry_after_s=3600
            ) from error
        from pagi_gateway.adapters.bedrock_wire import send
        from pagi_gateway.adapters.pydantic_ai_provider import PydanticAiProvider

        # The gateway's callers decide what is asked again; a retry below them would hide it.
        client = boto3.client(
            "bedrock-runtime",
            region_name=self._region,
            endpoint_url=self._endpoint.base_url,
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.meta.events.register("before-send.bedrock-runtime", send)
        client.meta.events.register("after-call.bedrock-runtime.Converse", _checked)
        owner = bedrock.BedrockProvider(bedrock_client=client)

        def make(name: str) -> Model:
            return BedrockConverseModel(name, provider=owner)

        return PydanticAiProvider(self._endpoint, make, failure=self._failure, patience=self._patience)

    def _failure(self, error: Exception) -> PagiError | None:
        from botocore.eventstream import ParserError  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError, NoCredentialsError  # type: ignore[import-untyped]
        from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

        place = self._endpoint.place
        if isinstance(error, NoCredentialsError):
            return ProviderAccessError(f"{place}: no credentials; set {self._endpoint.key_variable}")
        if isinstance(error, ResponseParserError | ParserError):
            return ProviderAnswerError(f"{place} answered what is no answer: {error}")
        return ProviderDownError(f"{place} failed: {error}") if isinstance(error, BotoCoreError) else None


def _checked(http_response: Any, parsed: dict[str, Any], **_: object) -> None:
    """Looks at an answer before the library does, which takes everything in it for granted."""
    from botocore.parsers import ResponseParserError

    if http_response.status_code != 200:
        return
    if "output" not in parsed:
        raise ResponseParserError("it has no output")
    parsed.setdefault("usage", {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0})
