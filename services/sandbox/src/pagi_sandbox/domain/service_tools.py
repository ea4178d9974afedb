"""Runs the tools that live in the service, within the same limits of time and output."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from pagi_sandbox.domain.describing import describe
from pagi_sandbox.domain.model import ToolCall, ToolOutcome, ToolSpec, Verdict
from pagi_sandbox.domain.ports import CallWatcher
from pagi_sandbox.domain.tool import ServiceTool, ToolContext, ToolFailedError

MAX_ANSWER_BYTES = 4 * 2**20


class ServiceToolRunner:
    """A ToolRunner for ServiceTools."""

    def __init__(self, tools: Sequence[ServiceTool]) -> None:
        """Runs exactly these."""
        self._tools = {tool.name: tool for tool in tools}

    def tools(self) -> Sequence[ToolSpec]:
        """What it was given."""
        return [describe(tool, "pagi-sandbox") for tool in self._tools.values()]

    async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
        """Runs one call; see ToolRunner. What a tool raises besides ToolFailedError is a fault of the service."""
        began = time.perf_counter()
        verdict, output, error = await self._verdict(call)
        duration_ms = (time.perf_counter() - began) * 1000
        return ToolOutcome(verdict, output, error=error, duration_ms=duration_ms)

    async def _verdict(self, call: ToolCall) -> tuple[Verdict, str, str]:
        context = ToolContext(call.workspace, call.session_id, call.effect_id, call.tenant, call.trace_id)
        try:
            async with asyncio.timeout(call.limits.timeout_ms / 1000) as clock:
                answer = await self._tools[call.tool].run(call.arguments, context)
        except ToolFailedError as error:
            return Verdict.FAILED, "", str(error)
        except TimeoutError:
            if not clock.expired():
                raise
            return Verdict.TIMEOUT, "", f"the tool did not end within {call.limits.timeout_ms} ms and was stopped"
        output = json.dumps(dict(answer), allow_nan=False)
        if len(output) > MAX_ANSWER_BYTES:
            return Verdict.OUTPUT, "", f"the tool's answer is larger than {MAX_ANSWER_BYTES} bytes"
        return Verdict.OK, output, ""
