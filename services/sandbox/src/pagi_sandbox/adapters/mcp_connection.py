"""One MCP server: kept running, asked for its tools, and called."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pagi_sandbox.adapters.mcp_http import bounded_http
from pagi_sandbox.adapters.mcp_results import RemoteTool, remote_tool, shown_size
from pagi_sandbox.adapters.mcp_stdio import Failing, jailed_stdio
from pagi_sandbox.domain.mcp import McpServer, ServerPlace
from pagi_sandbox.domain.model import Layer

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult

log = logging.getLogger(__name__)

_MOST_PAGES, _MOST_TOOLS = 20, 500
# ListTools answers with the tools of all servers in one message.
_MOST_BYTES = 2**20
# A server that lived so long begins anew with the shortest pause.
_STEADY_S = 30.0
_HUNG_CALLS = 3


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds.

    Attributes:
        start: for a server to start and to name its tools.
        first_pause: before a server that failed is started again; each pause is twice the one before.
        longest_pause: the most of that.
        absent: for a server that is being started again, before a call is answered without it.
        hung: by a call at least, for the server to count as one that did not answer it. Who asks for less, or leaves
            sooner, says nothing about the server, which others use too.
    """

    start: float = 20.0
    first_pause: float = 0.5
    longest_pause: float = 60.0
    absent: float = 5.0
    hung: float = 1.0


class ServerAwayError(Exception):
    """The server cannot be called; the tool was not started. The message says why."""


class ServerLostError(Exception):
    """The server went away during the call; whether it did its work is unknown."""


class RemoteError(Exception):
    """The server answered with an error."""


class McpConnection:
    """Keeps a server; what it says it can stays known while it is away."""

    def __init__(
        self, server: McpServer, place: ServerPlace, user: int, patience: Patience, on_tools: Callable[[], None]
    ) -> None:
        """`user` is the server's own number, see ServerPlace; `on_tools` hears whenever its tools may have changed."""
        self.server = server
        # Under which it runs, or did when it was started last; none where it is reached over the network.
        self.layers: tuple[Layer, ...] = ()
        self.tools: Mapping[str, RemoteTool] = {}
        self.tried = asyncio.Event()
        self._place = place
        self._user = user
        self._patience = patience
        self._on_tools = on_tools
        self._client: Client | None = None
        self._failing = Failing()
        self._up = asyncio.Event()
        self._changed = asyncio.Event()
        self._hung = 0

    async def keep(self) -> None:
        """Runs it, and again whenever it fails, until cancelled."""
        pause = self._patience.first_pause
        while True:
            began = time.monotonic()
            self._failing = Failing()
            try:
                await self._live()
            except Exception as error:  # noqa: BLE001 whatever a server does to the SDK, the others go on
                self._failing.lose(_innermost(error))
            finally:
                self._away()
                self.tried.set()
            if time.monotonic() - began > _STEADY_S:
                pause = self._patience.first_pause
            log.error("MCP server %r failed, next start in %g s: %s", self.server.name, pause, self._failing)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._patience.longest_pause)

    @property
    def running(self) -> bool:
        """Whether it answers now."""
        return self._client is not None and not self._failing.lost.is_set()

    def _jailed(self, layers: tuple[Layer, ...]) -> None:
        missing = [f"{one.name} ({one.detail})" for one in layers if not one.active]
        if missing and [one.active for one in layers] != [one.active for one in self.layers]:
            log.warning("MCP server %r runs without %s", self.server.name, "; ".join(missing))
        self.layers = layers

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Calls a tool by the name that the server gives it.

        Raises:
            ServerAwayError: it is not there, nor within a few seconds.
            ServerLostError: it went away during the call.
            RemoteError: it answered with an error.
        """
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        client, failing = await self._present(), self._failing
        began = time.monotonic()
        try:
            result = await client.call_tool(name, dict(arguments))
        except MCPError as error:
            if error.code == CONNECTION_CLOSED or failing.lost.is_set():
                failing.lose("the connection ended")
                raise ServerLostError(str(failing)) from error
            raise RemoteError(str(error)) from error
        except asyncio.CancelledError:
            if time.monotonic() - began >= self._patience.hung:
                self._hang(failing)
            raise
        except Exception as error:
            # The SDK lets through what the transport and its own checks of the answer raise.
            raise ServerLostError(_innermost(error)) from error
        self._hung = 0
        return result

    async def _present(self) -> Client:
        if self._failing.lost.is_set():
            self._away()
        if self._client is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.absent):
                    await self._up.wait()
        if self._client is None:
            raise ServerAwayError(str(self._failing))
        return self._client

    def _hang(self, failing: Failing) -> None:
        """A call was given up. A server that lets several pass by is started anew."""
        self._hung += 1
        if self._hung >= _HUNG_CALLS:
            self._hung = 0
            failing.lose(f"it did not answer {_HUNG_CALLS} calls")

    def _away(self) -> None:
        self._client = None
        self._up.clear()

    # One life of it.

    async def _live(self) -> None:
        async with self._connected() as client:
            self._client = client
            self._up.set()
            self.tried.set()
            log.info("MCP server %r brings %d tools", self.server.name, len(self.tools))
            listener = asyncio.create_task(self._listen(client))
            try:
                await self._until_lost(client)
            finally:
                self._away()
                listener.cancel()
                await asyncio.wait([listener])

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        from mcp import Client, Implementation

        transport = (
            bounded_http(self.server)
            if self.server.url
            else jailed_stdio(self.server, self._place, self._user, self._failing, self._jailed)
        )
        name = Implementation(name="pagi-sandbox", version=metadata.version("pagi-sandbox"))
        client = Client(transport, client_info=name, message_handler=self._hear, cache=None)
        clock = asyncio.timeout(self._patience.start)
        try:
            async with clock, client:
                await self._learn(client)
                clock.reschedule(None)
                yield client
        except TimeoutError:
            if not clock.expired():
                raise
            raise TimeoutError(f"it did not start within {self._patience.start:g} s") from None

    async def _until_lost(self, client: Client) -> None:
        lost = asyncio.create_task(self._failing.lost.wait())
        try:
            while not lost.done():
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({lost, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if self._changed.is_set() and not lost.done():
                    # However often it says so, it is asked once in a while.
                    await asyncio.sleep(0.1)
                    self._changed.clear()
                    async with asyncio.timeout(self._patience.start):
                        await self._learn(client)
        finally:
            lost.cancel()

    async def _hear(self, message: object) -> None:
        """Notifications of servers that speak the protocol from before 2026-07-28."""
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self._changed.set()

    async def _listen(self, client: Client) -> None:
        """The same of newer ones, which have to be asked to tell."""
        from mcp import MCPError
        from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

        with suppress(ListenNotSupportedError, SubscriptionLost, MCPError):
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._changed.set()

    async def _learn(self, client: Client) -> None:
        """Asks for its tools; one that cannot be shown is logged and left out."""
        tools: dict[str, RemoteTool] = {}
        told = size = 0
        info, cursor = client.server_info, None
        version = (info.version if info else "")[:64] or "1"
        network = bool(self.server.url) or self.server.jail.network
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools[: _MOST_TOOLS - told]:
                try:
                    known = remote_tool(self.server, tool, network=network, version=version)
                    if known.spec.name in tools:
                        raise ValueError(f"another of its tools is named {known.spec.name!r} too")
                    needs = shown_size(known.spec)
                    if size + needs > _MOST_BYTES:
                        raise ValueError(f"the server's tools would take more than {_MOST_BYTES} bytes to list")
                    size += needs
                    tools[known.spec.name] = known
                except ValueError as error:
                    log.error("tool %r of MCP server %r is left out: %s", tool.name[:64], self.server.name, error)
            told += len(page.tools)
            if told > _MOST_TOOLS:
                log.error("MCP server %r has more than %d tools; the rest is left out", self.server.name, _MOST_TOOLS)
            cursor = page.next_cursor
            if not cursor or told >= _MOST_TOOLS:
                break
        self.tools = tools
        self._on_tools()


def _innermost(error: BaseException) -> str:
    """What is at the bottom of the SDK's groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:500] if str(error) else type(error).__name__
