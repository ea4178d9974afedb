"""The HTTP road to a provider: one pool of connections, typed failures, bounded answers."""

from __future__ import annotations

import asyncio
import math
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pagi_gateway.adapters.http_errors import error_for
from pagi_gateway.domain.errors import ProviderAnswerError, ProviderDownError, ProviderTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    import aiohttp
    from yarl import URL

    from pagi_gateway.adapters.http_endpoint import Endpoint

    Heard = Callable[[Mapping[str, str]], None]

LARGEST_ANSWER_BYTES = 32 * 1024 * 1024
_JSON = {"Content-Type": "application/json"}
_KEEP_ALIVE_S = 30.0
_LONGEST_DRAIN_S = 0.1
# Seconds without a byte, seconds between probes, and how many of them stay unanswered.
_PROBES = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


def watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket on which the kernel notices a server that vanished, even while an answer takes its time."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        # Linux has all three; elsewhere the system's own times hold.
        if option := getattr(socket, name, None):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _headers(body: bytes | None, others: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Those of one request."""
    if body is None:
        return others
    return {**_JSON, **others} if others else _JSON


class Deadline:
    """A moment on the loop's clock."""

    def __init__(self, timeout_s: float, endpoint: Endpoint) -> None:
        self._clock = asyncio.get_running_loop().time
        self._at = self._clock() + timeout_s
        self._endpoint = endpoint

    def left_s(self) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self._at - self._clock())

    def missed(self) -> ProviderTimeoutError:
        """The error to raise when it has passed."""
        return ProviderTimeoutError(f"{self._endpoint.place} did not answer in the time that was left")


class HttpRoad:
    """Sends requests to one endpoint and opens the answers.

    Args:
        endpoint: The server.
        connect_timeout_s: Longest time to connect.
        largest_bytes: An answer of more is refused.
        heard: Is told the headers of every answer, whatever its status.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connect_timeout_s: float,
        largest_bytes: int = LARGEST_ANSWER_BYTES,
        heard: Heard | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._connect_timeout_s = connect_timeout_s
        self._largest = largest_bytes
        self._heard = heard
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Makes the pool of connections; nothing is asked yet."""
        # Imported here: 190 ms of CPU that the offline providers do not pay.
        import aiohttp

        headers = {"Accept": "application/json, text/event-stream", "User-Agent": "pagi-mesh"}
        headers |= self.endpoint.key_headers
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, socket_factory=watched_socket),
            # The caller's deadline bounds the whole; aiohttp only has to give up connecting.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            headers=headers,
        )

    async def stop(self) -> None:
        """Closes every connection."""
        if self._session:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        body: bytes | None = None,
        model: str = "",
        first_s: float = math.inf,
        signed: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request and yields the answer, whose status is 200. What is left unread closes the socket.

        Args:
            method: Of HTTP.
            path: Below the base URL.
            deadline: For all of it.
            body: JSON.
            model: Named where the server does not know it.
            first_s: How long the answer's head may take; seconds.
            headers: Beside the endpoint's own and those of a JSON body.
            signed: The headers, where a signature over them and over the path says that nothing may be changed.

        Raises:
            PagiError: The server cannot be reached, refused, or broke off.
        """
        assert self._session is not None, "start() comes first"
        with self.typed_failures():
            try:
                async with asyncio.timeout(min(first_s, deadline.left_s())):
                    response = await self._session.request(
                        method,
                        self._url(path, as_it_is=signed is not None),
                        data=body,
                        headers=signed or _headers(body, headers),
                        allow_redirects=False,
                    )
            except TimeoutError as error:
                raise self._late(error, deadline, first_s) from error
            try:
                if self._heard is not None:
                    self._heard(response.headers)
                if response.status != 200:
                    refused = await self.read(response, deadline)
                    raise error_for(response.status, response.headers, refused, self.endpoint, model)
                yield response
                await self._drain(response)
            finally:
                # Gives a finished connection back to the pool and closes any other.
                if response.content.at_eof():
                    response.release()
                else:
                    response.close()

    def _url(self, path: str, *, as_it_is: bool) -> str | URL:
        url = self.endpoint.base_url + path
        if not as_it_is:
            return url
        from yarl import URL

        return URL(url, encoded=True)

    async def read(self, response: aiohttp.ClientResponse, deadline: Deadline) -> bytes:
        """Returns the whole body, within the time and the size."""
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(deadline.left_s()):
                async for piece in response.content.iter_any():
                    size = self.grown(size, piece)
                    pieces.append(piece)
        except TimeoutError as error:
            raise deadline.missed() from error
        return b"".join(pieces)

    def grown(self, size: int, piece: bytes) -> int:
        """The size with one more piece.

        Raises:
            ProviderAnswerError: It is more than an answer may be.
        """
        size += len(piece)
        if size > self._largest:
            limit = self._largest / 1024 / 1024
            raise ProviderAnswerError(f"{self.endpoint.place} answered more than {limit:g} MiB; the rest was not read")
        return size

    async def check(self) -> None:
        """Connects to the server and hangs up: no request, so no cost.

        Raises:
            ProviderDownError: Nobody listens there.
        """
        from urllib.parse import urlsplit

        parts = urlsplit(self.endpoint.base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            _, writer = await asyncio.open_connection(parts.hostname, port)
        except OSError as error:
            raise ProviderDownError(f"{self.endpoint.place} cannot be reached: {error}") from error
        writer.close()

    async def _drain(self, response: aiohttp.ClientResponse) -> None:
        """Reads the few bytes after the end of a stream, so that the connection can be used again.

        The answer is given: where they do not come, or the connection breaks, it is closed and that is all.
        """
        import aiohttp

        try:
            async with asyncio.timeout(_LONGEST_DRAIN_S):
                while not response.content.at_eof():
                    await response.content.readany()
        except (aiohttp.ClientError, OSError):
            return

    def _late(
        self, error: TimeoutError, deadline: Deadline, first_s: float
    ) -> ProviderDownError | ProviderTimeoutError:
        """A server that does not even take the connection is down; one that took it is slow."""
        import aiohttp

        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ProviderDownError(f"{self.endpoint.place} took no connection within {self._connect_timeout_s:g} s")
        if deadline.left_s() > 0:
            return ProviderTimeoutError(f"{self.endpoint.place} began no answer within {first_s:g} s")
        return deadline.missed()

    def typed_failures(self) -> _TypedFailures:
        """Turns what the connection raises in the block into the domain's errors."""
        return _TypedFailures(self.endpoint)


class _TypedFailures:
    """Turns what aiohttp raises into the domain's errors."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import aiohttp

        if isinstance(error, aiohttp.ClientConnectorError):
            raise ProviderDownError(f"{self._endpoint.place} cannot be reached: {error.os_error}") from error
        if isinstance(error, aiohttp.ClientError | OSError) and not isinstance(error, TimeoutError):
            said = str(error) or type(error).__name__
            raise ProviderDownError(f"{self._endpoint.place} broke the connection: {said}") from error
