"""One tool call, from the request to the outcome."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pagi_sandbox.domain.admission import Admission
from pagi_sandbox.domain.disk import DiskGuard
from pagi_sandbox.domain.limits import LimitPolicy
from pagi_sandbox.domain.model import Isolation, ServerIsolation, ToolCall, ToolOutcome, ToolRequest, ToolSpec, Verdict
from pagi_sandbox.domain.once import OnceByEffect
from pagi_sandbox.domain.ports import ArgumentSchemas, CallMeter, CallWatcher, Isolates, ToolRunner, Workspaces
from pagi_sandbox.domain.registry import RegisteredTool, ToolRegistry
from pagi_sandbox.domain.session import check_session_id
from pagi_sandbox.domain.tool import Effects, Permission

_NOWHERE = Path()


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
    once: OnceByEffect
    disk: DiskGuard
    isolates: Isolates
    servers: Callable[[], Sequence[ServerIsolation]] = tuple
    _at_work: Counter[Path] = field(default_factory=Counter)

    def isolation(self) -> Isolation:
        """What stands between tools and the machine now, of MCP servers too."""
        return replace(self.isolates.isolation(), servers=tuple(self.servers()))

    def register(self) -> None:
        """Registers the tools, once the runners have started.

        Raises:
            DuplicateToolError: two tools want one name.
        """
        self.registry.add_all(self.runners, self.schemas)

    def refresh(self, runner: ToolRunner) -> None:
        """Takes the tools of a runner that learned something new."""
        self.registry.update(runner, self.schemas)

    def tools(self) -> Sequence[ToolSpec]:
        """Every tool, by name."""
        return self.registry.specs()

    def is_at_work(self, workspace: Path) -> bool:
        """Whether a call uses it now."""
        return workspace in self._at_work

    async def execute(self, request: ToolRequest, watcher: CallWatcher | None = None) -> ToolOutcome:
        """Runs one tool, or gives the outcome of an earlier call with the same effect id.

        Returns:
            How it ended; a tool that fails, times out or crashes is an outcome.

        Raises:
            UnknownToolError: no tool of that name.
            ArgumentsError: the arguments do not fit its schema.
            LimitError: a limit is over the operator's maximum.
            SessionIdError: the session id cannot name a workspace.
            IsolationError: the tool needs more isolation than there is.
            EffectIdError: the effect id names another call already.
            TooManyCallsError: too many calls wait already.
            UnavailableError: the tool could not be started.
        """
        tool = self.registry.find(request.tool)
        self.isolates.check_isolation(tool.spec)
        check_session_id(request.session_id)
        limits = self.limits.resolve(request.limits)
        arguments = tool.arguments.parse(request.arguments_json)

        async def work(begin: Callable[[], Awaitable[None]]) -> ToolOutcome:
            async with self.admission.place():
                call = ToolCall(
                    tool=request.tool,
                    arguments=arguments,
                    limits=limits,
                    workspace=self._workspace(tool.spec, request),
                    session_id=request.session_id,
                    effect_id=request.effect_id,
                    tenant=request.tenant,
                    trace_id=request.trace_id,
                    configuration=tool.configuration,
                )
                self._at_work[call.workspace] += 1
                try:
                    await begin()
                    return await self._metered(tool, call, watcher)
                finally:
                    self._at_work[call.workspace] -= 1
                    if not self._at_work[call.workspace]:
                        del self._at_work[call.workspace]

        if not request.effect_id:
            return await work(_nothing)
        return await self.once.run(request, tool.spec.effects, work)

    def _workspace(self, spec: ToolSpec, request: ToolRequest) -> Path:
        # Making a directory costs more than a calculation, and who never wrote needs none.
        return _NOWHERE if spec.pure else self.workspaces.directory(request.tenant, request.session_id)

    async def _metered(self, tool: RegisteredTool, call: ToolCall, watcher: CallWatcher | None) -> ToolOutcome:
        # "error" stands until there is an outcome: a cancelled call and a runner that is away end so too.
        verdict, began = "error", time.perf_counter()
        self.meter.started()
        try:
            outcome = await self._run(tool, call, watcher)
            if outcome.verdict is Verdict.OUTCOME_UNKNOWN and tool.spec.effects is not Effects.EFFECTFUL:
                # The runner died under it. Such a tool may simply run again.
                outcome = await self._run(tool, call, watcher)
            verdict = outcome.verdict.value
            return outcome
        finally:
            self.meter.ended(call.tool, verdict, time.perf_counter() - began)

    async def _run(self, tool: RegisteredTool, call: ToolCall, watcher: CallWatcher | None) -> ToolOutcome:
        if _may_write(tool.spec):
            return await self.disk.run(tool.runner, call, watcher)
        try:
            return await tool.runner.run(call, watcher)
        finally:
            if Permission.SERVICE.value in tool.spec.permissions:
                # What the service keeps of an answer may lie in the workspace now.
                self.disk.forget(call.workspace)


def _may_write(spec: ToolSpec) -> bool:
    """Whether a call can change its workspace; what runs in the service has no hands there."""
    return spec.effects is not Effects.READ_ONLY and Permission.SERVICE.value not in spec.permissions


async def _nothing() -> None:
    """A call without an effect id is not remembered."""
