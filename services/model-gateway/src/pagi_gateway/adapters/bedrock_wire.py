"""Sends what boto3 has made and signed over the gateway's own connections.

boto3 works in threads, where nobody can stop it: a call that is left would live on until its answer has come. On the
event loop its socket is closed at once, its answer is bounded, and its failures are those of the other providers.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]

from pagi_gateway.adapters.http_road import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    import aiohttp

    from pagi_gateway.adapters.http_road import HttpRoad

T = TypeVar("T")
_LEFT = (asyncio.CancelledError, asyncio.CancelledError(), None)

# Which call a thread of boto3 works for: threads are given the context of whoever waits for them.
_call: ContextVar[WireCall | None] = ContextVar("pagi_bedrock_call", default=None)


class WireCall:
    """What one call of boto3's client has open.

    Args:
        road: To the endpoint.
        model: Named where the endpoint does not know it.
        timeout_s: For all of it.
        first_s: For the head of the answer.
    """

    def __init__(self, road: HttpRoad, model: str, *, timeout_s: float, first_s: float) -> None:
        self._road = road
        self._model = model
        self._first_s = first_s
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(timeout_s, road.endpoint)
        self._opened = AsyncExitStack()
        self._work: Future[Any] | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._size = 0
        self._left = False

    def adopt(self) -> None:
        """What is asked of boto3 from now on, in this task, belongs to this call."""
        _call.set(self)

    async def leave(self, error: BaseException | None) -> None:
        """Ends it: a finished answer gives its connection back, any other is closed."""
        self._left = True
        _call.set(None)
        if self._work is not None:
            self._work.cancel()
        await self._opened.__aexit__(type(error) if error else None, error, None)

    def send(self, request: Any) -> AWSResponse:
        """Sends a request of boto3; called in its threads.

        Raises:
            PagiError: The endpoint cannot be reached, refused, or broke off.
        """
        status, headers = self._on_loop(self._open(request))
        return AWSResponse(request.url, status, headers, self)

    def stream(self) -> Iterator[bytes]:
        """The body, as boto3 reads it."""
        while piece := self._on_loop(self._piece()):
            yield piece

    def close(self) -> None:
        """What boto3 calls when it has read enough: the connection ends with the call."""

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        self._work = future = asyncio.run_coroutine_threadsafe(work, self._loop)
        if self._left:
            future.cancel()
        return future.result()

    async def _open(self, request: Any) -> tuple[int, dict[str, str]]:
        signed = {name: _text(value) for name, value in request.headers.items() if name.lower() != "content-length"}
        opening = self._road.open(
            request.method,
            request.url.removeprefix(self._road.endpoint.base_url),
            self._deadline,
            body=request.body,
            model=self._model,
            first_s=self._first_s,
            signed=signed,
        )
        self._response = await self._opened.enter_async_context(opening)
        if self._left:
            await self._opened.__aexit__(*_LEFT)
            raise asyncio.CancelledError
        return self._response.status, dict(self._response.headers)

    async def _piece(self) -> bytes:
        assert self._response is not None
        try:
            with self._road.typed_failures():
                async with asyncio.timeout(self._deadline.left_s()):
                    piece = await self._response.content.readany()
        except TimeoutError as error:
            raise self._deadline.missed() from error
        self._size = self._road.grown(self._size, piece)
        return piece


@asynccontextmanager
async def wire_call(road: HttpRoad, model: str, *, timeout_s: float, first_s: float) -> AsyncIterator[WireCall]:
    """A call, from its beginning to its end; what it has open is closed however it ends."""
    call = WireCall(road, model, timeout_s=timeout_s, first_s=first_s)
    try:
        yield call
    except BaseException as error:
        await call.leave(error)
        raise
    await call.leave(None)


def send(request: Any, **_: object) -> AWSResponse:
    """Handles botocore's event `before-send`."""
    call = _call.get()
    assert call is not None, "boto3 was asked outside of a call"
    return call.send(request)


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
