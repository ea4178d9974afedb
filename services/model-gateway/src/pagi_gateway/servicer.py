"""The gRPC edge: `pagi.gateway.v1.ModelGateway`."""

from __future__ import annotations

import math
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis import correlation, deadline

from pagi_gateway.convert import broken_to_proto, event_to_proto, model_to_proto, plan_request_from_proto, plan_to_proto
from pagi_gateway.domain.errors import ProviderFaultError, outcome_of
from pagi_gateway.domain.model import Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from pagi_gateway.domain.ports import Answerer

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = "pagi.gateway.v1.ModelGateway"
# The label of the key by which the caller was let in, set by whoever checked it; never the key itself.
KEY_LABEL = "x-budget-key"


class ModelGatewayServicer(gateway_pb2_grpc.ModelGatewayServicer):
    """Translates; the caller's remaining time goes along."""

    def __init__(self, gateway: Answerer) -> None:
        self._gateway = gateway

    async def GetPlan(self, request: pb.GetPlanRequest, context: Context) -> pb.GetPlanResponse:  # noqa: N802
        """Answers with the whole plan."""
        asked = plan_request_from_proto(request, caller=_caller(context))
        plan = await self._gateway.plan(asked, timeout_s=deadline.within(math.inf))
        return plan_to_proto(plan)

    async def StreamPlan(  # noqa: N802
        self, request: pb.StreamPlanRequest, context: Context
    ) -> AsyncIterator[pb.StreamPlanResponse]:
        """Answers with deltas, then with the whole plan; a stream that breaks ends with what was received."""
        asked = plan_request_from_proto(request.plan, caller=_caller(context))
        # Closed here, so that a caller who leaves closes the provider's socket at once.
        async with aclosing(self._gateway.stream(asked, timeout_s=deadline.within(math.inf))) as events:
            try:
                async for event in events:
                    yield event_to_proto(event)
            except ProviderFaultError as error:
                if error.received is not None:
                    received = replace(error.received, attempts=error.attempts)
                    yield broken_to_proto(outcome_of(error), error.message, received)
                raise

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        """Lists the models that can be asked."""
        models = await self._gateway.models(timeout_s=deadline.within(math.inf))
        return pb.ListModelsResponse(models=map(model_to_proto, models))


def _caller(context: Context) -> Caller:
    ids = correlation.current()
    labels = [value for key, value in context.invocation_metadata() or () if key == KEY_LABEL]
    return Caller(ids.tenant, str(labels[0]) if labels else "", ids.run_id)
