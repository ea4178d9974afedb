"""The stdio transport (https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio), bounded.

The SDK's own starts the server with the service's variables and no jail, and keeps a line of any length.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagi_sandbox.adapters.mcp_disk import over_limit, watch_disk
from pagi_sandbox.adapters.mcp_process import PipedProcess
from pagi_sandbox.domain.mcp import McpServer, ServerPlace
from pagi_sandbox.domain.model import Layer

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCMessage
    from pydantic import TypeAdapter

log = logging.getLogger(__name__)

# The longest message: an answer of 4 MiB with its escapes.
MAX_LINE = 8 * 2**20
# A server that talks faster waits in its own pipe, instead of keeping the service from its calls.
_MESSAGES_A_SECOND = 500
_BYTES_A_SECOND = 4 * 2**20
# So much longer than a large message took is waited for the next one: a list of millions takes a second.
_LARGE = 65_536
_REST = 9.0
_END_S = 7.0
_PATH = "/usr/local/bin:/usr/bin:/bin"


class Failing:
    """Why a server ended, for people: what it wrote last to stderr."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.reason = ""
        self.lines: deque[str] = deque(maxlen=5)
        self.lost = asyncio.Event()

    def lose(self, reason: str) -> None:
        """The server is of no more use; the first reason counts."""
        self.reason = self.reason or reason
        self.lost.set()

    def __str__(self) -> str:
        """One line."""
        said = " | ".join(self.lines)
        return f"{self.reason or 'it ended'}{f'; it said: {said}' if said else ''}"[:1000]


@asynccontextmanager
async def jailed_stdio(
    server: McpServer, place: ServerPlace, user: int, failing: Failing, on_layers: Callable[[tuple[Layer, ...]], None]
) -> AsyncIterator[Any]:
    """The streams of a server that runs while the block does.

    Args:
        server: to be started.
        place: where.
        user: the number that it gets where the service is root; 0: it keeps the service's.
        failing: hears why it ended.
        on_layers: hears which layers it runs under, once they are on.

    Raises:
        OSError: it cannot be started.
    """
    import anyio
    from mcp.shared.message import SessionMessage

    home = place.homes.absolute() / server.name
    reading, report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        process = await _start(server, place, home, user, report)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(report)
    into_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [
        asyncio.create_task(_read(process, into_session, failing)),
        asyncio.create_task(_write(process, from_session)),
        asyncio.create_task(_listen(process, failing)),
        asyncio.create_task(_hear_layers(reading, on_layers)),
        asyncio.create_task(watch_disk(home, server.jail.disk_mb, failing.lose)),
    ]
    try:
        yield incoming, outgoing
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for stream in (into_session, incoming, outgoing, from_session):
            stream.close()
        await _end(process)


async def _start(server: McpServer, place: ServerPlace, home: Path, user: int, report: int) -> PipedProcess:
    path = server.env.get("PATH", _PATH)
    environment = {"PATH": path, "HOME": str(home), "TMPDIR": str(home / "tmp"), "LANG": "C.UTF-8", **server.env}
    options = await asyncio.to_thread(_options, server, home, path)
    options |= {"user": user, "cgroup": place.cgroup, "minimum": place.minimum_profile, "report": report}
    arguments = ["-I", "-m", "pagi_sandbox.zygote.launch", json.dumps(options)]
    process = PipedProcess(arguments, environment, report, MAX_LINE)
    try:
        await process.connect()
    except BaseException:
        await _end(process)
        raise
    return process


def _options(server: McpServer, home: Path, path: str) -> dict[str, Any]:
    """How the jail is made.

    Raises:
        OSError: there is no such program, or its private directory cannot be made or is full.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fault = over_limit(home, server.jail.disk_mb)
    if fault:
        raise OSError(fault)
    program = shutil.which(server.command, path=path)
    if program is None:
        raise FileNotFoundError(f"there is no program {server.command!r} on {path}")
    # What the operator has named is there to be seen: a script, a directory to serve.
    named = [one for one in server.args if Path(one).is_absolute() and Path(one).exists()]
    cwd = server.cwd or str(home)
    return {
        "parent": os.getpid(),
        "argv": [program, *server.args],
        "cwd": cwd,
        "home": str(home),
        "network": server.jail.network,
        "read": [program, str(Path(program).resolve()), cwd, *named, *server.jail.read],
        "write": [str(home), *server.jail.write],
        "memory_bytes": server.jail.memory_mb * 2**20,
    }


async def _read(
    process: PipedProcess,
    into_session: MemoryObjectSendStream[SessionMessage | Exception],
    failing: Failing,
) -> None:
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    loop = asyncio.get_running_loop()
    window, messages, size = loop.time(), 0, 0
    try:
        while line := await process.stdout.readline():
            messages, size = messages + 1, size + len(line)
            if messages >= _MESSAGES_A_SECOND or size >= _BYTES_A_SECOND:
                await asyncio.sleep(max(0.0, window + 1 - loop.time()))
                window, messages, size = loop.time(), 0, 0
            began = loop.time()
            with suppress(ValueError, RecursionError):  # no message: servers print what they should not
                await into_session.send(SessionMessage(_message(line, jsonrpc_message_adapter)))
            if len(line) > _LARGE:
                await asyncio.sleep(0)  # the session takes it apart
                await asyncio.sleep(_REST * (loop.time() - began))
        code = await process.wait()
        failing.lose(f"it ended with status {code}")
    except ValueError:
        failing.lose(f"it sent a message of more than {MAX_LINE} bytes")
    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
        failing.lose("the session is over")
    finally:
        # Whoever waits for an answer hears that none comes.
        into_session.close()


def _message(line: bytes, adapter: TypeAdapter[JSONRPCMessage]) -> JSONRPCMessage:
    """A message.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deeply.
    """
    try:
        return adapter.validate_json(line, by_name=False)
    except ValueError:
        if b"\\ud" not in line.lower():
            raise
        # Half a surrogate pair: a text that was cut in the middle of a character. It costs that character only.
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return adapter.validate_json(text.encode("utf-8", "replace"), by_name=False)


async def _write(process: PipedProcess, from_session: MemoryObjectReceiveStream[SessionMessage]) -> None:
    with suppress(ConnectionError):
        async for message in from_session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


async def _listen(process: PipedProcess, failing: Failing) -> None:
    """Keeps the last of what it says to people; never more."""
    while True:
        chunk = await process.stderr.read(8192)
        if not chunk:
            return
        for line in chunk.decode("utf-8", "replace").splitlines():
            if line.strip():
                failing.lines.append(line.strip()[:300])
        await asyncio.sleep(0.01)


async def _hear_layers(reading: int, on_layers: Callable[[tuple[Layer, ...]], None]) -> None:
    """Reads what the jail tells of itself; nothing where the server was not started after all."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    told = b""
    loop.add_reader(reading, ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            try:
                data = os.read(reading, 65_536)
            except BlockingIOError:
                continue
            if not data:
                break
            told += data
    finally:
        loop.remove_reader(reading)
        os.close(reading)
    if told:
        on_layers(tuple(Layer(*layer) for layer in json.loads(told)))


async def _end(process: PipedProcess) -> None:
    """Tells the jail's keeper to end everything in it, and waits for that."""
    process.terminate()
    try:
        async with asyncio.timeout(_END_S):
            # Whatever is left in the pipes, so that they close.
            for pipe in (process.stdout, process.stderr):
                while await pipe.read(65_536):
                    pass
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    finally:
        process.close()
