"""A provider behind HTTP: one road, one dialect."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from pagi_gateway.adapters.http_errors import decoded
from pagi_gateway.adapters.http_road import Deadline, HttpRoad
from pagi_gateway.adapters.http_stream import Parser, Patience, deltas_of
from pagi_gateway.domain.errors import ModelNotFoundError
from pagi_gateway.domain.model import ModelInfo, Plan, ReasoningDelta, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    import aiohttp

    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Delta, PlanRequest


class Answer(Parser, Protocol):
    """Gathers one answer, from its events or whole."""

    def take_whole(self, body: bytes, content_type: str) -> None:
        """Takes an answer that came at once."""

    def plan(self) -> Plan:
        """What was gathered.

        Raises:
            ProviderAnswerError: It holds no answer.
        """


class Dialect(Protocol):
    """How an API is spoken."""

    @property
    def path(self) -> str:
        """Where answers are asked for, below the base URL."""

    def body(self, request: PlanRequest, *, stream: bool) -> bytes:
        """The question as JSON."""

    def headers(self, request: PlanRequest) -> Mapping[str, str]:
        """What the question needs beside the endpoint's own headers."""

    def answer(self, request: PlanRequest) -> Answer:
        """What gathers the answer to the question."""

    def names(self, body: bytes) -> list[str]:
        """The names in the answer of `GET /models`."""

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do."""


class HttpProvider:
    """Answers by HTTP. A component: the pool of connections lives from `start` to `stop`.

    Args:
        road: To the server.
        dialect: Its API.
        patience: How long a stream may keep its listener waiting.
    """

    def __init__(self, road: HttpRoad, dialect: Dialect, *, patience: Patience | None = None) -> None:
        self._road = road
        self._endpoint = road.endpoint
        self._dialect = dialect
        self._patience = patience or Patience()

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
        await self._road.start()

    async def stop(self) -> None:
        """Closes the connections."""
        await self._road.stop()

    async def check(self) -> None:
        """Raises where nobody listens at the address."""
        await self._road.check()

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do, as far as its name tells."""
        return self._dialect.capabilities(model)

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Asks for the whole answer at once."""
        deadline = Deadline(timeout_s, self._endpoint)
        body = self._dialect.body(request, stream=False)
        headers = self._dialect.headers(request)
        async with self._road.open(
            "POST", self._dialect.path, deadline, body=body, model=request.model, headers=headers
        ) as response:
            return await self._whole(response, request, deadline)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Asks for a stream and sends its deltas on, gathered for a moment."""
        deadline = Deadline(timeout_s, self._endpoint)
        began = deadline.left_s()
        body = self._dialect.body(request, stream=True)
        opening = self._road.open(
            "POST",
            self._dialect.path,
            deadline,
            body=body,
            model=request.model,
            first_s=self._patience.first_s,
            headers=self._dialect.headers(request),
        )
        async with opening as response:
            if response.content_type != "text/event-stream":
                # A server that cannot stream answers at once.
                plan = await self._whole(response, request, deadline)
                for delta in _deltas(plan):
                    yield delta
                yield plan
                return
            answer = self._dialect.answer(request)
            waited = began - deadline.left_s()
            deltas_ = deltas_of(self._road, response, deadline, answer, self._patience, waited_s=waited)
            async with aclosing(deltas_) as deltas:
                async for delta in deltas:
                    yield delta
            yield answer.plan()

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """Asks the server for its models; the default is listed even where the server has no such list."""
        deadline = Deadline(timeout_s, self._endpoint)
        try:
            async with self._road.open("GET", "/models", deadline) as response:
                body = await self._road.read(response, deadline)
        except ModelNotFoundError:
            names = []
        else:
            names = decoded(self._dialect.names, body, self._endpoint, response.content_type)
        names = list(dict.fromkeys([self.default_model, *names]))
        return [
            ModelInfo(name, self.name, is_default=name == self.default_model, capabilities=self.capabilities(name))
            for name in names
        ]

    async def _whole(self, response: aiohttp.ClientResponse, request: PlanRequest, deadline: Deadline) -> Plan:
        body = await self._road.read(response, deadline)
        answer = self._dialect.answer(request)
        answer.take_whole(body, response.content_type)
        return answer.plan()


def _deltas(plan: Plan) -> list[Delta]:
    reasoning = "".join(each.text for each in plan.reasoning)
    deltas: list[Delta] = [ReasoningDelta(reasoning)] if reasoning else []
    return [*deltas, TextDelta(plan.text)] if plan.text else deltas
