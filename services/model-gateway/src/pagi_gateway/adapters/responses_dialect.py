"""OpenAI's Responses API: what keeps the reasoning of its models over a tool loop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pagi_gateway.adapters.model_capabilities import capabilities_of
from pagi_gateway.adapters.openai_wire import decode_models
from pagi_gateway.adapters.responses_answer import ResponsesAnswer
from pagi_gateway.adapters.responses_messages import request_body
from pagi_gateway.domain.call_ids import fresh_ids
from pagi_gateway.domain.capabilities import Support

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import PlanRequest


class OpenAiResponses:
    """Speaks it."""

    path = "/responses"

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def body(self, request: PlanRequest, *, stream: bool) -> bytes:
        """The question."""
        reasons = request.effort is not None or self.capabilities(request.model).reasoning is Support.YES
        return request_body(request, self._endpoint, reasons=reasons, stream=stream)

    def headers(self, request: PlanRequest) -> Mapping[str, str]:
        """What the question needs beside the endpoint's own."""
        return {}

    def answer(self, request: PlanRequest) -> ResponsesAnswer:
        """What gathers the answer."""
        return ResponsesAnswer(self._endpoint, request.model, fresh_ids(request.messages))

    def names(self, body: bytes) -> list[str]:
        """The models of `GET /models`."""
        return [model.id for model in decode_models(body).data or ()]

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do: this API has no stop words and no seed, and fetches files."""
        can = capabilities_of("" if self._endpoint.compatible else self._endpoint.provider, model)
        return replace(can, stop=Support.NO, seed=Support.NO, file_urls=can.files)
