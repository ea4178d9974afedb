"""OpenAI's chat completions API, which OpenRouter, Ollama, DeepSeek, Qwen, vLLM and many others speak too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.model_capabilities import capabilities_of
from pagi_gateway.adapters.openai_messages import request_body
from pagi_gateway.adapters.openai_stream import ChatAnswer
from pagi_gateway.adapters.openai_wire import decode_models
from pagi_gateway.domain.call_ids import fresh_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import PlanRequest


class OpenAiChat:
    """Speaks it. Source: the API reference of chat completions."""

    path = "/chat/completions"

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def body(self, request: PlanRequest, *, stream: bool) -> bytes:
        """The question."""
        return request_body(request, self._endpoint, stream=stream)

    def headers(self, request: PlanRequest) -> Mapping[str, str]:
        """What the question needs beside the endpoint's own."""
        return {}

    def answer(self, request: PlanRequest) -> ChatAnswer:
        """What gathers the answer."""
        return ChatAnswer(self._endpoint, request.model, fresh_ids(request.messages))

    def names(self, body: bytes) -> list[str]:
        """The models of `GET /models`."""
        return [model.id for model in decode_models(body).data or ()]

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do."""
        return capabilities_of("" if self._endpoint.compatible else self._endpoint.provider, model)
