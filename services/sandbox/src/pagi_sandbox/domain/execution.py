"""One tool call, from the request to the outcome."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pagi_sandbox.domain.admission import Admission
from pagi_sandbox.domain.limits import LimitPolicy
from pagi_sandbox.domain.model import ToolCall, ToolOutcome, ToolRequest, ToolSpec
from pagi_sandbox.domain.ports import ArgumentSchemas, CallMeter, ToolRunner, Workspaces
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.domain.session import check_session_id


@dataclass(slots=True)
class Sandbox:
    """Checks a request, gives it a workspace and a place, and lets the tool's runner run it."""

    runners: Sequence[ToolRunner]
    schemas: ArgumentSchemas
    limits: LimitPolicy
    workspaces: Workspaces
    admission: Admission
    meter: CallMeter
    registry: ToolRegistry

    def register(self) -> None:
        """Registers the tools, once the runners have started.

        Raises:
            DuplicateToolError: two tools want one name.
        """
        self.registry.add_all(self.runners, self.schemas)

    def tools(self) -> Sequence[ToolSpec]:
        """Every tool, by name."""
        return self.registry.specs()

    async def execute(self, request: ToolRequest) -> ToolOutcome:
        """Runs one tool.

        Returns:
            How it ended; a tool that fails, times out or crashes is an outcome.

        Raises:
            UnknownToolError: no tool of that name.
            ArgumentsError: the arguments do not fit its schema.
            LimitError: a limit is over the operator's maximum.
            SessionIdError: the session id cannot name a workspace.
            TooManyCallsError: too many calls wait already.
            UnavailableError: the tool could not be started.
        """
        tool = self.registry.find(request.tool)
        check_session_id(request.session_id)
        limits = self.limits.resolve(request.limits)
        arguments = tool.arguments.parse(request.arguments_json)
        async with self.admission.place():
            call = ToolCall(
                tool=request.tool,
                arguments=arguments,
                limits=limits,
                workspace=self.workspaces.directory(request.tenant, request.session_id),
                session_id=request.session_id,
                effect_id=request.effect_id,
                tenant=request.tenant,
                trace_id=request.trace_id,
            )
            return await self._metered(tool.runner, call)

    async def _metered(self, runner: ToolRunner, call: ToolCall) -> ToolOutcome:
        # "error" stands until there is an outcome: a cancelled call and a runner that is away end so too.
        verdict, began = "error", time.perf_counter()
        self.meter.started()
        try:
            outcome = await runner.run(call)
            verdict = outcome.verdict.value
            return outcome
        finally:
            self.meter.ended(call.tool, verdict, time.perf_counter() - began)
