"""The streamable HTTP transport, with bounded answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pagi_sandbox.domain.mcp import McpServer

MAX_BODY = 8 * 2**20


@asynccontextmanager
async def bounded_http(server: McpServer) -> AsyncIterator[Any]:
    """The streams of a server at a URL."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self._stream:
                size += len(chunk)
                if size > MAX_BODY:
                    raise httpx2.ReadError(f"the server sent more than {MAX_BODY} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    class BoundedTransport(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            # What is packed cannot be bounded here.
            request.headers["Accept-Encoding"] = "identity"
            response = await super().handle_async_request(request)
            # Of a stream of events, the SDK bounds each.
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                response.stream = Bounded(response.stream)
            return response

    # No trust_env: a proxy that is meant for something else must not see these headers.
    async with (
        httpx2.AsyncClient(
            headers=dict(server.headers),
            timeout=httpx2.Timeout(30.0, read=300.0),
            transport=BoundedTransport(),
            trust_env=False,
        ) as client,
        streamable_http_client(server.url, http_client=client, max_sse_event_size=MAX_BODY) as streams,
    ):
        yield streams
