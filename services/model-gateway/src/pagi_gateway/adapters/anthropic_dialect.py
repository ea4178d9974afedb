"""Anthropic's Messages API, by HTTP and without its SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.anthropic_answer import MessagesAnswer
from pagi_gateway.adapters.anthropic_messages import BINDING_HEADERS, gives_back, request_body
from pagi_gateway.adapters.model_capabilities import capabilities_of
from pagi_gateway.adapters.openai_wire import decode_models
from pagi_gateway.domain.call_ids import fresh_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import PlanRequest


class AnthropicMessages:
    """Speaks it."""

    path = "/messages"

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def body(self, request: PlanRequest, *, stream: bool) -> bytes:
        """The question."""
        return request_body(request, self._endpoint, stream=stream)

    def headers(self, request: PlanRequest) -> Mapping[str, str]:
        """What the question needs beside the endpoint's own."""
        return BINDING_HEADERS if gives_back(request) else {}

    def answer(self, request: PlanRequest) -> MessagesAnswer:
        """What gathers the answer."""
        return MessagesAnswer(self._endpoint, request.model, fresh_ids(request.messages))

    def names(self, body: bytes) -> list[str]:
        """The models of `GET /models`."""
        return [model.id for model in decode_models(body).data or ()]

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do."""
        return capabilities_of(self._endpoint.provider, model)
