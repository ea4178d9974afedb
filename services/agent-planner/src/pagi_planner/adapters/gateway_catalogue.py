"""What the model gateway says of its models."""

from __future__ import annotations

import asyncio
import logging
import time

from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi_chassis.errors import PagiError
from pagi_chassis.grpc_client import GrpcClient

from pagi_planner.convert import traits_from_proto
from pagi_planner.domain.model import ModelTraits

log = logging.getLogger(__name__)

# Models change when a gateway is set up anew: seldom, and a run that knows of it late loses little.
FRESH_S = 60.0
# A gateway that cannot say at once what it has must not hold up a run.
FIRST_TIMEOUT_S = 2.0


class GatewayCatalogue:
    """Asks the gateway, and remembers.

    Args:
        client: Of the gateway.
        fresh_s: For how long what it said is not asked for again.
    """

    def __init__(self, client: GrpcClient, *, fresh_s: float = FRESH_S) -> None:
        self._client = client
        self._stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)
        self._fresh_s = fresh_s
        self._models: dict[str, ModelTraits] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def traits(self, model: str) -> ModelTraits:
        """What is known of a model. What is known is given at once and refreshed behind the answer."""
        if time.monotonic() - self._asked_at > self._fresh_s and self._asking is None:
            self._asking = asyncio.create_task(self._refresh(), name="models of the gateway")
        if not self._models and self._asking:
            await asyncio.shield(self._asking)
        return self._models.get(model, ModelTraits())

    async def _refresh(self) -> None:
        try:
            answer = await self._client.call(
                self._stub.ListModels, gateway_pb2.ListModelsRequest(), timeout_s=FIRST_TIMEOUT_S, repeatable=True
            )
            self._models = traits_from_proto(answer)
        except PagiError as error:
            log.info("what the models can do is not known: %s", error.message)
        finally:
            self._asked_at = time.monotonic()
            self._asking = None
