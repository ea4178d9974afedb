"""The model behind the model gateway's gRPC."""

from __future__ import annotations

from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.errors import FailedPreconditionError, InternalError, InvalidArgumentError, NotFoundError
from pagi_chassis.grpc_client import GrpcClient

from pagi_planner.convert import model_answer_from_proto, model_request_to_proto
from pagi_planner.domain.errors import UnknownModelError
from pagi_planner.domain.model import ModelAnswer, ModelRequest


class GatewayModel:
    """Asks the gateway.

    Args:
        client: Of the gateway.
        timeout_s: For one answer; less where the run has less.
    """

    def __init__(self, client: GrpcClient, *, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """Asks for the next step.

        Raises:
            UnknownModelError: There is no such model.
            InvalidArgumentError: The provider refuses the conversation: it is too long, say.
            FailedPreconditionError: The gateway or its provider is set up wrongly.
            PagiError: The gateway cannot be reached, or its provider.
        """
        try:
            # A call whose connection breaks is asked again: nothing but the answer comes of it.
            answer = await self._client.call(
                self._stub.GetPlan, model_request_to_proto(request), timeout_s=self._timeout_s, repeatable=True
            )
        except NotFoundError as error:
            if request.model:
                raise UnknownModelError(error.message, field="model") from error
            raise FailedPreconditionError(f"the gateway's default model does not exist: {error.message}") from error
        except InvalidArgumentError as error:
            if error.field:
                # A field of a message that was written here: nothing that the caller could mend.
                raise InternalError(f"the gateway refuses {error.field}: {error.message}") from error
            raise
        return model_answer_from_proto(answer)
