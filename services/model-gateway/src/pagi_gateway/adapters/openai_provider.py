"""Any server that speaks OpenAI's chat completions API: OpenAI, OpenRouter, Ollama, vLLM and the rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from pagi_gateway.adapters.openai_errors import error_in_answer, unreadable
from pagi_gateway.adapters.openai_http import Deadline, OpenAiHttp
from pagi_gateway.adapters.openai_messages import request_body
from pagi_gateway.adapters.openai_stream import EventReader, StreamedAnswer
from pagi_gateway.adapters.openai_wire import decode_answer, decode_models
from pagi_gateway.domain.call_ids import fresh_ids
from pagi_gateway.domain.errors import ModelNotFoundError, ProviderDownError
from pagi_gateway.domain.model import ModelInfo, Plan, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    import aiohttp

    from pagi_gateway.adapters.openai_wire import WireAnswer
    from pagi_gateway.domain.model import PlanRequest

# Deltas are sent on in chunks of at most this long: a message costs about the same whatever it holds.
GATHER_S = 0.020
_PATH = "/chat/completions"


class OpenAiProvider:
    """Answers by HTTP. A component: the pool of connections lives from `start` to `stop`."""

    def __init__(self, http: OpenAiHttp) -> None:
        self._http = http
        self._endpoint = http.endpoint

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self._endpoint.provider

    @property
    def default_model(self) -> str:
        """The endpoint's default."""
        return self._endpoint.default_model

    async def start(self) -> None:
        """Makes the pool of connections; the server need not be there yet."""
        await self._http.start()

    async def stop(self) -> None:
        """Closes the connections."""
        await self._http.stop()

    async def check(self) -> None:
        """Raises where nobody listens at the address."""
        await self._http.check()

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Asks for the whole answer at once."""
        deadline = Deadline(timeout_s, self._endpoint)
        body = request_body(request, self._endpoint, stream=False)
        async with self._http.open("POST", _PATH, deadline, body=body, model=request.model) as response:
            return await self._whole(response, request, deadline)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | Plan, None]:
        """Asks for a stream and sends its text on, gathered for at most `GATHER_S`."""
        deadline = Deadline(timeout_s, self._endpoint)
        body = request_body(request, self._endpoint, stream=True)
        async with self._http.open("POST", _PATH, deadline, body=body, model=request.model) as response:
            if response.content_type == "text/event-stream":
                reading = _Reading(self._http, response, request, deadline)
                while not reading.ended:
                    if text := await reading.next_text():
                        yield TextDelta(text)
                yield reading.plan()
            else:
                # A server that cannot stream answers at once.
                plan = await self._whole(response, request, deadline)
                if plan.text:
                    yield TextDelta(plan.text)
                yield plan

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """Asks the server for its models; the default is listed even where the server has no such list."""
        deadline = Deadline(timeout_s, self._endpoint)
        try:
            async with self._http.open("GET", "/models", deadline) as response:
                body = await self._http.read(response, deadline)
        except ModelNotFoundError:
            names = []
        else:
            try:
                names = [model.id for model in decode_models(body).data or ()]
            except (msgspec.DecodeError, RecursionError) as error:
                raise unreadable(response.content_type, body, self._endpoint, str(error)) from error
        names = list(dict.fromkeys([self.default_model, *names]))
        return [ModelInfo(name, self.name, is_default=name == self.default_model) for name in names]

    async def _whole(self, response: aiohttp.ClientResponse, request: PlanRequest, deadline: Deadline) -> Plan:
        body = await self._http.read(response, deadline)
        answer = _decoded(body, response.content_type, self._http, request.model)
        if not answer.choices or answer.choices[0].message is None:
            raise unreadable(response.content_type, body, self._endpoint, "it has no choices")
        gathered = StreamedAnswer(self._endpoint, request.model)
        gathered.add(answer)
        return gathered.plan(fresh_ids(request.messages))


class _Reading:
    """Reads one event stream to its end."""

    def __init__(
        self, http: OpenAiHttp, response: aiohttp.ClientResponse, request: PlanRequest, deadline: Deadline
    ) -> None:
        self._http = http
        self._response = response
        self._request = request
        self._deadline = deadline
        self._clock = asyncio.get_running_loop().time
        self._events = EventReader()
        self._answer = StreamedAnswer(http.endpoint, request.model)
        self._size = 0
        self._held = ""
        self._send_at = 0.0
        self.ended = False

    async def next_text(self) -> str:
        """Waits for text and returns what has gathered; empty where the stream ended without more."""
        while not self.ended:
            wait = self._send_at - self._clock()
            if self._held and wait <= 0:
                break
            if (piece := await self._piece(wait if self._held else None)) is None:
                break
            self._take(piece)
        text, self._held = self._held, ""
        if text:
            self._send_at = self._clock() + GATHER_S
        return text

    def plan(self) -> Plan:
        """The whole answer."""
        return self._answer.plan(fresh_ids(self._request.messages))

    async def _piece(self, wait_s: float | None) -> bytes | None:
        """The next bytes; None where the text that is held has waited long enough."""
        left = self._deadline.left_s()
        try:
            async with asyncio.timeout(left if wait_s is None else min(left, wait_s)):
                return await self._response.content.readany()
        except TimeoutError as error:
            if wait_s is None or self._deadline.left_s() <= 0:
                raise self._deadline.missed() from error
            return None

    def _take(self, piece: bytes) -> None:
        if not piece:
            self._end_of_body()
            return
        self._size = self._http.grown(self._size, piece)
        for data in self._events.feed(piece):
            if data == b"[DONE]":
                self.ended = True
                return
            event = _decoded(data, self._response.content_type, self._http, self._request.model)
            self._held += self._answer.add(event)

    def _end_of_body(self) -> None:
        """Some servers send no [DONE]; without a finish reason the answer was cut."""
        if self._answer.finish_reason is None:
            raise ProviderDownError(f"{self._http.endpoint.place} ended the stream before the answer was whole")
        self.ended = True


def _decoded(body: bytes, content_type: str, http: OpenAiHttp, model: str) -> WireAnswer:
    try:
        answer = decode_answer(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(content_type, body, http.endpoint, str(error)) from error
    if answer.error:
        raise error_in_answer(answer.error, http.endpoint, model)
    return answer
