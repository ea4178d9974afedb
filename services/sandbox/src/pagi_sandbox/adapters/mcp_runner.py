"""Runs the tools of MCP servers."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pagi_sandbox.adapters.mcp_connection import (
    McpConnection,
    Patience,
    RemoteError,
    ServerAwayError,
    ServerLostError,
)
from pagi_sandbox.adapters.mcp_results import Attachment, answer_of, keepable
from pagi_sandbox.domain.mcp import McpServer, ServerPlace
from pagi_sandbox.domain.model import Artifact, ServerIsolation, ToolCall, ToolOutcome, ToolSpec, Verdict
from pagi_sandbox.domain.ports import CallWatcher
from pagi_sandbox.zygote.server_jail import profile_of

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 4 * 2**20
# Ending a server, with everything that it started, takes less than this (seconds).
_HEARD_S = 5.0


class McpRunner:
    """A ToolRunner and a component. Each server lives in a task of its own; no fault of one reaches another.

    A server that is away keeps its tools: a plan that knows them gets told that it is away, and may go on.
    """

    def __init__(
        self,
        servers: Sequence[McpServer],
        place: ServerPlace,
        *,
        write: Callable[[ToolCall], Awaitable[ToolOutcome]],
        patience: Patience | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            servers: each with a name of its own.
            place: where and as whom those run that are started here.
            write: runs a call of write_file, within the quota; so what servers answer besides text is kept.
            patience: how long is waited for servers.
        """
        self._patience = patience or Patience()
        self._write_file = write
        users = place.users_of([server.name for server in servers])
        self._connections = [
            McpConnection(server, place, users[server.name], self._patience, lambda: self.on_change())
            for server in servers
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self.on_change: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Starts every server, and waits a few seconds for their tools; those of a slower one come later."""
        if not self._connections:
            return
        # Off the loop: the SDK takes 0.7 s of processor time and 60 MB, so only where there is a server.
        await asyncio.to_thread(importlib.import_module, "mcp")
        self._tasks = [asyncio.create_task(connection.keep()) for connection in self._connections]
        waiting = [asyncio.create_task(connection.tried.wait()) for connection in self._connections]
        await asyncio.wait(waiting, timeout=self._patience.absent)
        for task in waiting:
            task.cancel()

    async def stop(self) -> None:
        """Ends every server, with everything that it started."""
        waiting = set(self._tasks)
        while waiting:
            # Said again: where it meets an error of the transport, the SDK raises that and loses the cancellation.
            for task in waiting:
                task.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=_HEARD_S)

    def tools(self) -> Sequence[ToolSpec]:
        """What the servers said last."""
        return [tool.spec for connection in self._connections for tool in connection.tools.values()]

    def isolation(self) -> Sequence[ServerIsolation]:
        """What those run under that are started here."""
        return [
            ServerIsolation(connection.server.name, connection.running, connection.layers)
            for connection in self._connections
            if not connection.server.url
        ]

    async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
        """Runs one call; see ToolRunner. A server that is away or fails is an outcome, for the model to work around."""
        began = time.perf_counter()
        output, artifacts = "", tuple[Artifact, ...]()
        try:
            async with asyncio.timeout(call.limits.timeout_ms / 1000) as clock:
                verdict, output, error, artifacts = await self._call(call)
        except TimeoutError:
            if not clock.expired():
                raise
            verdict, error = Verdict.TIMEOUT, f"the MCP server did not answer within {call.limits.timeout_ms} ms"
        except ServerAwayError as fault:
            verdict, error = Verdict.FAILED, f"the MCP server is not there; nothing was done: {fault}"
        except ServerLostError as fault:
            verdict = Verdict.OUTCOME_UNKNOWN
            error = f"the MCP server went away during the call; whether it did its work is unknown: {fault}"
        except RemoteError as fault:
            verdict, error = Verdict.FAILED, str(fault)[:20_000] or "the MCP server answered with an error"
        duration_ms = (time.perf_counter() - began) * 1000
        outcome = ToolOutcome(verdict, output, error=error, duration_ms=duration_ms, artifacts=artifacts)
        return self._with_layers(outcome, call.tool)

    def _with_layers(self, outcome: ToolOutcome, tool: str) -> ToolOutcome:
        """What the server runs under; nothing is known of one that is elsewhere."""
        connection = next((one for one in self._connections if tool in one.tools), None)
        active = tuple(one.name for one in connection.layers if one.active) if connection is not None else ()
        if not active:
            return outcome
        return replace(outcome, profile=profile_of(set(active)), backend="native", layers=active)

    async def _call(self, call: ToolCall) -> tuple[Verdict, str, str, tuple[Artifact, ...]]:
        connection, name = self._find(call.tool)
        result = await connection.call(name, call.arguments)
        answer, attachments = answer_of(result)
        if result.is_error:
            return Verdict.FAILED, "", _complaint(answer), ()
        try:
            output = _output(answer)
        except ValueError:
            return Verdict.FAILED, "", "the MCP server's answer holds NaN or Infinity, which JSON does not have", ()
        if len(output) > MAX_ANSWER_BYTES:
            return Verdict.OUTPUT, "", f"the tool's answer is larger than {MAX_ANSWER_BYTES} bytes", ()
        artifacts: tuple[Artifact, ...] = ()
        if attachments:
            answer["files"], artifacts = await self._keep(call, connection.server.name, attachments)
            output = _output(answer)
        return Verdict.OK, output, "", artifacts

    def _find(self, tool: str) -> tuple[McpConnection, str]:
        for connection in self._connections:
            if tool in connection.tools:
                return connection, connection.tools[tool].remote_name
        raise ServerAwayError(f"its server has no tool {tool!r} any more")

    async def _keep(
        self, call: ToolCall, server: str, attachments: Sequence[Attachment]
    ) -> tuple[list[dict[str, Any]], tuple[Artifact, ...]]:
        """Writes files into the workspace, in a jail as every write is; what is not kept is described only."""
        described: list[dict[str, Any]] = []
        artifacts: list[Artifact] = []
        kept = keepable(one for one in attachments if one.name)
        for one in attachments:
            entry: dict[str, Any] = {"media_type": one.media_type, "size_bytes": one.size}
            if one in kept and await self._write(call, path := f"mcp/{server}-{one.name}", one.content):
                entry["path"] = path
                artifacts.append(Artifact(path, one.media_type, one.size))
            described.append(entry)
        return described, tuple(artifacts)

    async def _write(self, call: ToolCall, path: str, content: str) -> bool:
        arguments: Mapping[str, Any] = {"path": path, "content": content, "encoding": "base64"}
        outcome = await self._write_file(
            ToolCall("write_file", arguments, call.limits, call.workspace, call.session_id, "", call.tenant)
        )
        if outcome.verdict is not Verdict.OK:
            log.warning("a file of MCP tool %r is not kept: %s", call.tool, outcome.error)
        return outcome.verdict is Verdict.OK


def _output(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, allow_nan=False)


def _complaint(answer: Mapping[str, Any]) -> str:
    said = answer.get("text") or json.dumps(answer.get("structured", ""))
    return str(said)[:20_000] or "the tool failed and does not say why"
